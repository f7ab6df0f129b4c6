# Git's own tests of what has to do with files and processes, with Debian's git.
scripts="t0000 t0001 t0003 t0005 t0008 t0021 t0060 t0061 t0301 t1006 t1300 t1400 t1450 t1500 t2004 t2400 t3200 t3400
	t3903 t4001 t4013 t4200 t5000 t5300 t5302 t5304 t5310 t5500 t5510 t5516 t5601 t5604 t5801 t6300 t6500 t7003
	t7004 t7006 t7063 t7300 t7400 t7502 t7508 t7600 t7800 t9300"
case $1 in
prepare)
	cd "$2"
	if [ ! -x source/t/helper/test-tool ]; then
		"$(dirname "$0")/source" git >&2
		make -s -C source -j2 NO_CURL=1 NO_EXPAT=1 NO_GETTEXT=1 NO_TCLTK=1 NO_OPENSSL=1 NO_PERL= NO_PYTHON=1 all >&2
		chmod -R a+rX source
	fi
	source/git --version | sed 's/git version //'
	;;
run)
	export TEST_OUTPUT_DIRECTORY="$PWD" TEST_NO_MALLOC_CHECK=1
	cd "$2/source/t" || exit
	for script in $scripts; do
		file=$(echo "$script"-*.sh)
		echo "== $script"
		timeout -k 5 120 sh "./$file" --no-color </dev/null
	done
	;;
esac
