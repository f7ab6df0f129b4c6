package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// serverCases are servers under `memjail exec`, asked by clients outside, through a
// UNIX socket. The servers run beside each other; only one is busy at a time.
func serverCases() []benchCase {
	postgres := func(name string, detail bool, transactions int, flags ...string) benchCase {
		return benchCase{name: "server/postgres-" + name, unit: nanoseconds, runs: 15, seconds: 6, detail: detail,
			prepare: func(s *stage) error { return s.postgres(transactions, flags...) }}
	}
	return []benchCase{
		{name: "server/redis", unit: nanoseconds, runs: 15, seconds: 6, prepare: prepareRedis},
		{name: "server/nginx", unit: nanoseconds, runs: 15, seconds: 6, prepare: prepareNginx},
		postgres("select", false, 8000, "-S", "-c", "4", "-j", "2"),
		postgres("update", true, 2000, "-N", "-c", "4", "-j", "2"),
		postgres("connect", false, 300, "-S", "-C", "-c", "1"),
	}
}

// both does something for each of the two servers: prefix makes it memjail's.
func (s *stage) both(do func(name string, prefix []string) error) error {
	if err := do("native", nil); err != nil {
		return err
	}
	return do("memjail", []string{s.memjail, "exec", "-q", "--"})
}

// serve starts a server and waits until its socket is there.
func (s *stage) serve(socket string, argv ...string) error {
	log, err := os.CreateTemp(s.dir, "server-*.log")
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, s.dir
	if err := cmd.Start(); err != nil {
		return err
	}
	s.close(func() { cmd.Process.Signal(syscall.SIGINT); cmd.Wait() })
	for range 500 {
		if _, err := os.Stat(socket); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	said, _ := os.ReadFile(log.Name())
	return fmt.Errorf("%q has no socket:\n%s", argv, said)
}

func prepareRedis(s *stage) error {
	server, err := look("redis-server")
	if err != nil {
		return err
	}
	client, err := look("redis-benchmark")
	if err != nil {
		return err
	}
	const requests = 40_000
	return s.both(func(name string, prefix []string) error {
		socket := filepath.Join(s.dir, "redis-"+name)
		argv := slices.Concat(prefix, []string{server, "--port", "0", "--unixsocket", socket, "--save", "",
			"--appendonly", "no", "--dir", s.dir})
		if err := s.serve(socket, argv...); err != nil {
			return err
		}
		s.share(name, 2*requests, client, "-s", socket, "-q", "-t", "get,set", "-n", strconv.Itoa(requests))
		return nil
	})
}

// prepareNginx asks for small files, each of which nginx opens again for each request.
func prepareNginx(s *stage) error {
	server, err := look("nginx")
	if err != nil {
		return err
	}
	return s.both(func(name string, prefix []string) error {
		dir := filepath.Join(s.dir, "nginx-"+name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		socket := filepath.Join(dir, "socket")
		config := fmt.Sprintf("daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/log;\n"+
			"events {}\nhttp { access_log off; client_body_temp_path %[1]s; proxy_temp_path %[1]s; "+
			"fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s; keepalive_requests 1000000;\n"+
			"server { listen unix:%[1]s/socket; root %[1]s; } }\n", dir)
		file := filepath.Join(dir, "nginx.conf")
		if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
			return err
		}
		argv := slices.Concat(prefix, []string{server, "-c", file, "-e", filepath.Join(dir, "log"), "-p", dir})
		if err := s.serve(socket, argv...); err != nil {
			return err
		}
		client := &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", socket)
			}}}
		s.add(name, func() (float64, error) { return askNginx(client, 4000) })
		return nil
	})
}

// askNginx returns how long each of count requests for a file took, in nanoseconds.
func askNginx(client *http.Client, count int) (float64, error) {
	begun := time.Now()
	for range count {
		answer, err := client.Get("http://nginx/nginx.conf")
		if err != nil {
			return 0, err
		}
		_, err = io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != http.StatusOK {
			return 0, fmt.Errorf("nginx answers %q: %w", answer.Status, err)
		}
	}
	return float64(time.Since(begun).Nanoseconds()) / float64(count), nil
}

// postgres asks two new PostgreSQL servers with pgbench.
func (s *stage) postgres(transactions int, flags ...string) error {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		return skip("PostgreSQL is not installed")
	}
	bin := filepath.Dir(found[len(found)-1])
	user, err := unprivileged()
	if err != nil {
		return err
	}
	clients := 1
	if i := slices.Index(flags, "-c"); i >= 0 {
		if clients, err = strconv.Atoi(flags[i+1]); err != nil {
			return err
		}
	}
	return s.both(func(name string, prefix []string) error {
		dir, err := s.newCluster(bin, user)
		if err != nil {
			return err
		}
		argv := slices.Concat(user, prefix, []string{bin + "/postgres", "-D", dir, "-k", dir, "-c",
			"listen_addresses=", "-c", "fsync=off",
			"-c", "autovacuum=off", "-c", "max_wal_size=4GB", "-c", "checkpoint_timeout=1h"})
		if err := s.serve(filepath.Join(dir, ".s.PGSQL.5432"), argv...); err != nil {
			return err
		}
		ask := []string{bin + "/pgbench", "-h", dir, "-U", "bench", "postgres"}
		fill := append(slices.Clone(ask), "-i", "-q", "-s", "2")
		for tries := 0; ; tries++ { // it may not be ready yet
			_, err := output(fill)
			if err == nil {
				break
			}
			if tries == 20 {
				return err
			}
			time.Sleep(100 * time.Millisecond)
		}
		each := transactions / clients
		s.share(name, each*clients, slices.Concat(ask, []string{"-n", "-t", strconv.Itoa(each)}, flags)...)
		return nil
	})
}

// newCluster makes a data directory that belongs to the server's user.
func (s *stage) newCluster(bin string, user []string) (string, error) {
	dir, err := os.MkdirTemp(s.dir, "pg-")
	if err != nil {
		return "", err
	}
	if user != nil {
		if _, err := output([]string{"chown", "nobody:nogroup", dir}); err != nil {
			return "", err
		}
	}
	_, err = output(slices.Concat(user, []string{bin + "/initdb", "--no-sync", "-A", "trust", "-U", "bench",
		"-D", dir}))
	return dir, err
}
