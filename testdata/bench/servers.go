package main

import (
	"fmt"
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
	return []benchCase{
		{name: "server/redis", unit: nanoseconds, runs: 15, prepare: prepareRedis},
		{name: "server/postgres-select", unit: nanoseconds, runs: 15, prepare: func(s *stage) error {
			return s.postgres(8000, "-S", "-c", "4", "-j", "2")
		}},
		{name: "server/postgres-update", unit: nanoseconds, runs: 15, prepare: func(s *stage) error {
			return s.postgres(2000, "-N", "-c", "4", "-j", "2")
		}},
		{name: "server/postgres-connect", unit: nanoseconds, runs: 15, prepare: func(s *stage) error {
			return s.postgres(300, "-S", "-C", "-c", "1")
		}},
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
