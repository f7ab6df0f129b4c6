# Every attempt of memjail probe, as $1, in the shape $2. TestKernelProbe reads the lines.
[ "$2" = supervised ] || memjail capability install || exit
memjail run -v -- true 2>&1 | grep -q "the memory capability decides" && echo "shape: capability" || echo "shape: supervised"
as() { if [ "$1" = root ]; then sh -c "$2"; else su user -c "$2"; fi; }
as $1 "memjail probe -q" >/tmp/probe 2>&1
sed -n '/^Open:/,/^$/s/^  \([a-z][^ ]*\)$/open: \1/p' /tmp/probe
grep " held, " /tmp/probe | sed 's/\x1b\[[0-9;]*m//g'
