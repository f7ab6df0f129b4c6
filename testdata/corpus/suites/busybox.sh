# Busybox's tests, of Debian's static busybox.
case $1 in
prepare)
	cd "$2"
	[ -d source ] || { "$(dirname "$0")/source" busybox >&2 && chmod -R a+rX source; }
	busybox | sed -n '1s/BusyBox v\([^ ]*\).*/\1/p'
	;;
run)
	cp -a "$2/source/testsuite" testsuite && mkdir bin && cp "$(command -v busybox)" bin/ && touch bin/.config || exit
	# What it can do is what it says itself, not what a configuration says.
	busybox --list | while read -r applet; do
		echo "CONFIG_$(echo "$applet" | tr 'a-z-' 'A-Z_')=y"
	done >bin/.config
	cd testsuite && bindir=$PWD/../bin tsdir=$PWD sh ./runtest -v
	;;
esac
