# CPython's own tests, of the modules that have to do with the system.
modules="test_asyncio test_cmd_line test_concurrent_futures test_ctypes test_dbm test_eintr test_epoll test_faulthandler
	test_fcntl test_file test_fileio test_fork1 test_glob test_grp test_io test_ioctl test_largefile test_mailbox
	test_mmap test_multiprocessing_fork test_openpty test_os test_pathlib test_platform test_poll test_popen
	test_posix test_posixpath test_pty test_pwd test_readline test_resource test_select test_selectors test_shutil
	test_signal test_socket test_sqlite3 test_stat test_subprocess test_sys test_syslog test_tarfile test_tempfile
	test_termios test_threading test_tracemalloc test_tty test_uuid test_wait3 test_wait4 test_zipfile"
python=/usr/bin/python3
minor=$($python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
case $1 in
prepare)
	cd "$2"
	if [ ! -d lib/test ]; then
		apt-get -q download "libpython$minor-testsuite" >&2
		dpkg -x libpython*.deb unpacked
		cp -a "/usr/lib/python$minor" full
		cp -a "unpacked/usr/lib/python$minor/." full/
		mv full lib
	fi
	$python -c 'import platform; print(platform.python_version())'
	;;
run)
	export PYTHONPATH="$2/lib" PYTHONDONTWRITEBYTECODE=1
	for module in $modules; do
		timeout -k 5 100 $python -m test --junit-xml "$PWD/$module.xml" "$module" </dev/null
	done
	;;
esac
