package supervisor

import "testing"

// traffic is what a stretch of requests looks like.
type traffic struct {
	requests int
	callers  uint32 // that take turns
	grants   int    // every how many requests something is injected; 0: never
}

func (l *load) carry(t traffic) {
	for i := range t.requests {
		l.request(1 + uint32(i)%t.callers)
		if t.grants > 0 && i%t.grants == 0 {
			l.granted()
		}
	}
}

func TestLoad(t *testing.T) {
	const window = loadWindow
	single, four := traffic{10 * window, 1, 0}, traffic{10 * window, 4, 0}
	for _, test := range []struct {
		name      string
		cpus      int
		traffic   []traffic
		receivers int
		pinned    bool
	}{
		{"nobody", 4, nil, 1, false},
		{"a single caller", 4, []traffic{single}, 1, false},
		{"less than a window", 4, []traffic{{window - 1, 4, 0}}, 1, false},
		{"one window", 4, []traffic{{window, 4, 0}}, 2, true},
		{"two windows", 4, []traffic{{2 * window, 4, 0}}, 3, true},
		{"alternating callers", 4, []traffic{four}, 4, true},
		{"alternating callers on two CPUs", 2, []traffic{four}, 2, true},
		{"alternating callers on one CPU", 1, []traffic{four}, 1, false},
		{"two callers", 4, []traffic{{10 * window, 2, 0}}, 4, true},
		{"and then a single one", 4, []traffic{four, single}, 1, false},
		{"and then a single one for a window", 4, []traffic{four, {window, 1, 0}}, 3, true},
		{"and again", 4, []traffic{four, single, four}, 4, true},
		{"injections", 4, []traffic{{10, 1, 1}}, 2, false},
		{"an injection now and then", 4, []traffic{{1000, 1, grantMemory}}, 2, false},
		{"injections and alternating callers", 4, []traffic{{10 * window, 4, 1}}, 4, true},
		{"injections on one CPU", 1, []traffic{{10, 1, 1}}, 2, false},
		{"just after injections", 4, []traffic{{10, 1, 1}, {grantMemory, 1, 0}}, 2, false},
		{"after injections", 4, []traffic{{10, 1, 1}, {grantMemory + 1, 1, 0}}, 1, false},
		{"rare injections", 4, []traffic{{1000, 1, 500}, {grantMemory + 1, 1, 0}}, 1, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := load{cpus: test.cpus}
			for _, part := range test.traffic {
				l.carry(part)
			}
			if got, pinned := l.receivers(), l.pinned(); got != test.receivers || pinned != test.pinned {
				t.Errorf("%d receivers, pinned %t; want %d, %t", got, pinned, test.receivers, test.pinned)
			}
		})
	}
}

// TestLoadMixed: between a few and many switches nothing changes.
func TestLoadMixed(t *testing.T) {
	l := load{cpus: 4}
	l.carry(traffic{3 * loadWindow, 4, 0})
	before := l.receivers()
	for i := range 10 * loadWindow {
		l.request(uint32(i / 5)) // about 26 switches a window
	}
	if got := l.receivers(); got != before {
		t.Errorf("%d receivers became %d", before, got)
	}
}

// TestLoadConcurrent: callers run at the same time if they come back by turns; a
// program and what it starts one after the other do not.
func TestLoadConcurrent(t *testing.T) {
	for _, test := range []struct {
		name  string
		cpus  int
		turns []uint32 // callers, each for ten requests
		want  bool
	}{
		{"nobody", 2, nil, false},
		{"one", 2, []uint32{1, 1, 1, 1}, false},
		{"two, one after the other", 2, []uint32{1, 2}, false},
		{"a program and what it starts", 2, []uint32{1, 2, 1, 3, 1, 4, 1, 5, 1, 6}, false},
		{"two levels of that", 2, []uint32{1, 2, 3, 2, 4, 2, 1, 5, 6, 5, 7, 5, 1, 8, 9}, false},
		{"two by turns", 2, []uint32{1, 2, 1, 2}, true},
		{"two by turns on one CPU", 1, []uint32{1, 2, 1, 2}, false},
		{"three by turns", 2, []uint32{1, 2, 3, 1, 2, 3}, true},
		{"two trees at once", 2, []uint32{1, 2, 3, 4, 3, 4}, true},
		{"by turns, and then one for long", 2,
			append([]uint32{1, 2, 1, 2}, make([]uint32, parallelMemory/10)...), false},
	} {
		l := load{cpus: test.cpus}
		for _, tid := range test.turns {
			for range 10 {
				l.request(tid)
			}
		}
		if got := l.concurrent(); got != test.want {
			t.Errorf("%s: concurrent %t, want %t", test.name, got, test.want)
		}
	}
}
