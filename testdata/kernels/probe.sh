# Every attempt of memjail probe, as $1, in the shape $2, those of the pattern $3 only if it
# is given. TestKernelProbe reads the lines.
[ "$2" = supervised ] || memjail capability install || exit
memjail run -v -- true 2>&1 | grep -q "the memory capability decides" && echo "shape: capability" || echo "shape: supervised"
probe="memjail probe -q --format json -o /tmp/probe.json ${3:+--only $3}"
if [ "$1" = root ]; then $probe; else su user -c "$probe"; fi >/tmp/said 2>&1
echo "status $?"
sed 's/^/says: /' /tmp/said | tail -n 20
awk -F'"' '$2 == "name" {name = $4} $2 == "verdict" {verdict = $4} $2 == "layer" {layer = $4}
	$2 == "promise" {print "result: " name " " verdict " " layer; layer = ""}' /tmp/probe.json
