package supervisor

import (
	"math"
	"runtime"
	"strconv"
	"testing"
)

// TestAllocations pins what one open costs of the collector's work: nothing where it
// is left to the kernel, as nearly all are, and a few small objects where a
// descriptor is injected or a refusal has to be understood.
func TestAllocations(t *testing.T) {
	g, _ := served(t, testOptions())
	for path, want := range map[string]float64{
		"/etc/hostname": 0, "/etc/nothing": 0, "/nothing/of/this/kind": 0, "/": 0, "/usr/../etc/hostname": 0, ".": 0,
		"/proc/self/maps": 7, "/proc/self/status": 7, "/proc/meminfo": 4, "/proc/" + strconv.Itoa(g.pid) + "/stat": 6,
		"/proc/self/mem": 12,
	} {
		if got := g.allocations(t, path); got > want {
			t.Errorf("%s: %v allocations for each open, want at most %v", path, got, want)
		}
	}
}

// allocations counts those of this process for each open of a path by the target,
// to a tenth. What the order to open costs does not count.
func (g *target) allocations(t *testing.T, path string) float64 {
	t.Helper()
	count := func(opens int) float64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		g.do(t, "many %d %s", opens, path)
		runtime.ReadMemStats(&after)
		return float64(after.Mallocs - before.Mallocs)
	}
	const few, many = 1000, 5000
	count(few) // whatever is made once
	return math.Round((count(many)-count(few))/(many-few)*10) / 10
}
