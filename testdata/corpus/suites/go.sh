# The tests of Go's standard library that have to do with files, processes and the system.
packages="archive/tar archive/zip crypto/x509 debug/buildinfo debug/elf embed internal/poll internal/syscall/unix io
	io/fs log/syslog mime/multipart net net/http net/rpc os os/exec os/exec/internal/fdtest os/signal os/user
	path/filepath plugin runtime/debug runtime/metrics runtime/pprof runtime/trace syscall testing time"
case $1 in
prepare)
	go env GOVERSION | sed s/go//
	;;
run)
	export GOCACHE="$PWD/cache" GOFLAGS=-p=2
	# shellcheck disable=SC2086 # a list
	go test -short -count=1 -json $packages
	;;
esac
