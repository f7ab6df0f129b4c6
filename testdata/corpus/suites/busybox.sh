# Busybox's tests, of Debian's static busybox.
case $1 in
prepare)
	cd "$2"
	if [ ! -d source ]; then
		"$(dirname "$0")/source" busybox >&2
		chmod -R a+rX source
	fi
	busybox | sed -n '1s/BusyBox v\([^ ]*\).*/\1/p'
	;;
run)
	cp -a "$2/source" source && mkdir bin && cp "$(command -v busybox)" bin/ || exit
	# What it can do is what it says itself, not what a configuration says.
	busybox --list | while read -r applet; do
		echo "CONFIG_$(echo "$applet" | tr 'a-z-' 'A-Z_')=y"
	done >bin/.config
	bin=$PWD/bin
	cd source/testsuite && bindir=$bin tsdir=$PWD sh ./runtest -v
	;;
esac
