# psutil's tests: whether everything that it reads of /proc is there.
version=7.2.2
case $1 in
prepare)
	cd "$2"
	if [ ! -d "psutil-$version/psutil" ] || [ ! -x venv/bin/pytest ]; then
		/usr/bin/python3 -m venv venv
		venv/bin/pip install -q pytest pytest-timeout setuptools wheel >&2
		venv/bin/pip download -q --no-deps --no-binary :all: "psutil==$version" -d . >&2
		tar -xzf "psutil-$version.tar.gz"
		(cd "psutil-$version" && ../venv/bin/python setup.py -q build_ext -i >&2)
		chmod -R a+rX .
	fi
	echo $version
	;;
run)
	export PYTHONPATH="$2/psutil-$version" PYTHONDONTWRITEBYTECODE=1
	"$2/venv/bin/python" -m pytest -c /dev/null --rootdir="$PYTHONPATH" -p no:cacheprovider -v --timeout 10 --tb=no \
		--junit-xml="$PWD/results.xml" --ignore="$PYTHONPATH/tests/test_memleaks.py" "$PYTHONPATH/tests"
	;;
esac
