package main

// family is a part of memjail that is changed, and the tests that have to notice.
type family struct {
	name      string
	files     []string
	names     []string // the functions and variables of them; none: all functions
	operators operator
	// tests are tried in order until one fails; each is the arguments of go test.
	tests [][]string
	// slow: only with -slow.
	slow bool
}

var families = []family{
	{name: "table of grants", files: []string{"supervisor/decide/grants.go"}, names: []string{"buildGrants"},
		operators: dropElement | swapName,
		tests:     [][]string{{"./supervisor/decide"}, {"-run", "Fuzz|Table|Compile", "./sandbox/capability/install"}}},
	{name: "decision about an open", files: []string{"supervisor/decide/grants.go"},
		names: []string{"find", "plain", "matches", "validTail", "Open", "DependsOnMembership", "DependsOnTracer",
			"DependsOnParent", "writable", "WorldReadable"},
		operators: negate | dropSide | dropCase,
		tests:     [][]string{{"./supervisor/decide"}, {"-run", "Fuzz", "./sandbox/capability/install"}}},
	{name: "filter's table", files: []string{"sandbox/filter/rules.go"}, names: []string{"rules"},
		operators: dropElement, tests: filterTests},
	{name: "filter's prologue", files: []string{"sandbox/filter/prologue.go"},
		operators: negate | dropSide | dropCall, tests: filterTests},
	{name: "filter's compiled bodies", files: []string{"sandbox/filter/programs/amd64-listener.bpf",
		"sandbox/filter/programs/amd64-plain.bpf", "sandbox/filter/programs/arm64-listener.bpf",
		"sandbox/filter/programs/arm64-plain.bpf"},
		operators: flipJump, tests: filterTests},
	{name: "supervisor's own filter", files: []string{"sandbox/filter/supervisor.go"},
		names: []string{"own", "ownDenials"}, operators: dropElement | negate | dropCall,
		tests: [][]string{{"-run", "TestOwn|FuzzSupervisorProgram", "./sandbox/filter"}}},
	{name: "special file systems and devices",
		files:     []string{"sandbox/specialfs/specialfs.go", "sandbox/landlock/devices.go"},
		names:     []string{"table", "deviceRules", "basicDevices", "wholeDeviceDirs", "terminalMajors", "Named", "OfMagic", "At"},
		operators: dropElement | negate,
		tests:     [][]string{{"./sandbox/specialfs", "./sandbox/landlock"}, {"-run", "Special", "./sandbox/capability/install"}}},
	{name: "carve", files: []string{"sandbox/landlock/carve.go"},
		operators: negate | dropSide | dropCall, tests: [][]string{{"./sandbox/landlock"}}},
	{name: "walk through carved trees", files: []string{"sandbox/landlock/walk.go", "sandbox/landlock/node.go"},
		operators: negate | dropSide | dropCall, tests: [][]string{{"./sandbox/landlock"}}},
	{name: "denied paths", files: []string{"sandbox/landlock/deny.go"},
		operators: negate | dropSide, tests: [][]string{{"./sandbox/landlock"}}},
	{name: "steps of the starter", files: []string{"sandbox/starter/starter.go"},
		names: []string{"outerSteps", "domainSteps", "execSteps", "limitSteps", "raisingSteps", "capabilitySteps", "left",
			"filterSteps", "finalLimits", "lateLimit"},
		operators: negate | dropElement | dropCall,
		tests:     [][]string{{"./sandbox/starter"}, {"./sandbox"}}},
	{name: "self-check", files: []string{"sandbox/kernel/steps.go"}, names: []string{"StepsSelfCheck"},
		operators: negate | dropElement | dropCall,
		tests:     [][]string{{"-run", "SelfCheck", "./sandbox/kernel"}, {"-run", "SelfCheck", "./sandbox"}}},
	{name: "inherited descriptors", files: []string{"sandbox/descriptors/descriptors.go", "sandbox/descriptors/sockets.go",
		"sandbox/descriptors/places.go", "sandbox/descriptors/memfd.go"},
		operators: negate | dropSide | dropCase, tests: [][]string{{"./sandbox/descriptors"}, {"./sandbox"},
			{"-run", "Held|Foreign|Inherited|TestKernelObjects", "./cmd/memjail"}}},
	{name: "resolver", files: []string{"supervisor/resolve/resolve.go", "supervisor/resolve/walk.go",
		"supervisor/resolve/mounted.go", "supervisor/resolve/process.go"},
		operators: negate | dropSide, tests: [][]string{{"./supervisor/resolve"}, {"-run", "Slow", "./supervisor"}}},
	{name: "BPF programs", files: []string{"sandbox/capability/install/bpf/capability.bpf.c"},
		operators: emptyProgram, slow: true, tests: [][]string{{"-run", "TestCapability$|TestDrop$", "./cmd/memjail"}}},
}

// filterTests: the quick ones first.
var filterTests = [][]string{
	{"-run", "TestOwn|TestSpot|TestDenials|TestFind|FuzzProgram|TestNumbers", "./sandbox/filter"},
	{"-short", "-run", "TestVerdicts", "./sandbox/filter"},
	{"./sandbox/filter"},
}
