package policy

// Rights are what a path rule gives.
type Rights uint8

const (
	MayRead Rights = 1 << iota // files and the lists of directories
	MayWrite
	MayExecute
)

// allRights is "everything as usual".
const allRights = MayRead | MayWrite | MayExecute

// String writes the rights as the keys of [paths] do: "ro", "rwx"; "none".
func (r Rights) String() string {
	switch r {
	case MayRead:
		return "ro"
	case MayRead | MayExecute:
		return "rox"
	case MayRead | MayWrite:
		return "rw"
	case allRights:
		return "rwx"
	}
	return "none"
}

// PathRule is an element of one of the four path lists.
type PathRule struct {
	Key    string // "paths.rox"
	Path   string
	Rights Rights
}

// Rules lists the path rules, in the order of the lists and of their paths.
func (p Paths) Rules() []PathRule {
	var rules []PathRule
	for _, list := range []struct {
		rights Rights
		paths  []string
	}{
		{MayRead, p.RO}, {MayRead | MayExecute, p.ROX}, {MayRead | MayWrite, p.RW}, {allRights, p.RWX},
	} {
		for _, path := range list.paths {
			rules = append(rules, PathRule{"paths." + list.rights.String(), path, list.rights})
		}
	}
	return rules
}

// rightsAt adds up what the rules give on a path, by their names alone.
func (p Paths) rightsAt(path string) Rights {
	if !p.Present {
		return allRights
	}
	var sum Rights
	for _, r := range p.Rules() {
		if within(r.Path, path) {
			sum |= r.Rights
		}
	}
	return sum
}
