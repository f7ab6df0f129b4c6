package landlockabi

import (
	"errors"
	"os"
	"reflect"
	"testing"
	"unsafe"

	theirs "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// TestConstants compares with go-landlock, which has them from the kernel's headers.
func TestConstants(t *testing.T) {
	for name, pair := range map[string][2]int{
		"AccessFSExecute":                  {AccessFSExecute, theirs.AccessFSExecute},
		"AccessFSWriteFile":                {AccessFSWriteFile, theirs.AccessFSWriteFile},
		"AccessFSReadFile":                 {AccessFSReadFile, theirs.AccessFSReadFile},
		"AccessFSReadDir":                  {AccessFSReadDir, theirs.AccessFSReadDir},
		"AccessFSRemoveDir":                {AccessFSRemoveDir, theirs.AccessFSRemoveDir},
		"AccessFSRemoveFile":               {AccessFSRemoveFile, theirs.AccessFSRemoveFile},
		"AccessFSMakeChar":                 {AccessFSMakeChar, theirs.AccessFSMakeChar},
		"AccessFSMakeDir":                  {AccessFSMakeDir, theirs.AccessFSMakeDir},
		"AccessFSMakeReg":                  {AccessFSMakeReg, theirs.AccessFSMakeReg},
		"AccessFSMakeSock":                 {AccessFSMakeSock, theirs.AccessFSMakeSock},
		"AccessFSMakeFifo":                 {AccessFSMakeFifo, theirs.AccessFSMakeFifo},
		"AccessFSMakeBlock":                {AccessFSMakeBlock, theirs.AccessFSMakeBlock},
		"AccessFSMakeSym":                  {AccessFSMakeSym, theirs.AccessFSMakeSym},
		"AccessFSRefer":                    {AccessFSRefer, theirs.AccessFSRefer},
		"AccessFSTruncate":                 {AccessFSTruncate, theirs.AccessFSTruncate},
		"AccessFSIoctlDev":                 {AccessFSIoctlDev, theirs.AccessFSIoctlDev},
		"AccessFSResolveUnix":              {AccessFSResolveUnix, theirs.AccessFSResolveUnix},
		"AccessNetBindTCP":                 {AccessNetBindTCP, theirs.AccessNetBindTCP},
		"AccessNetConnectTCP":              {AccessNetConnectTCP, theirs.AccessNetConnectTCP},
		"AccessNetBindUDP":                 {AccessNetBindUDP, theirs.AccessNetBindUDP},
		"AccessNetConnectSendUDP":          {AccessNetConnectSendUDP, theirs.AccessNetConnectSendUDP},
		"ScopeAbstractUnixSocket":          {ScopeAbstractUnixSocket, theirs.ScopeAbstractUnixSocket},
		"ScopeSignal":                      {ScopeSignal, theirs.ScopeSignal},
		"FlagRestrictSelfLogSameExecOff":   {FlagRestrictSelfLogSameExecOff, theirs.FlagRestrictSelfLogSameExecOff},
		"FlagRestrictSelfLogNewExecOn":     {FlagRestrictSelfLogNewExecOn, theirs.FlagRestrictSelfLogNewExecOn},
		"FlagRestrictSelfLogSubdomainsOff": {FlagRestrictSelfLogSubdomainsOff, theirs.FlagRestrictSelfLogSubdomainsOff},
		"FlagRestrictSelfTSync":            {FlagRestrictSelfTSync, theirs.FlagRestrictSelfTSync},
		"FlagRestrictSelfNoNewPrivs":       {FlagRestrictSelfNoNewPrivs, theirs.FlagRestrictSelfNoNewPrivs},
		"FlagAddRuleQuiet":                 {FlagAddRuleQuiet, theirs.FlagAddRuleQuiet},
		"rulePathBeneath":                  {rulePathBeneath, theirs.RuleTypePathBeneath},
		"ruleNetPort":                      {ruleNetPort, theirs.RuleTypeNetPort},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %#x, want %#x", name, pair[0], pair[1])
		}
	}
}

// TestLayouts: every field of go-landlock's structures is here, at the same place.
func TestLayouts(t *testing.T) {
	for _, pair := range [][2]reflect.Type{
		{reflect.TypeFor[RulesetAttr](), reflect.TypeFor[theirs.RulesetAttr]()},
		{reflect.TypeFor[PathBeneathAttr](), reflect.TypeFor[theirs.PathBeneathAttr]()},
		{reflect.TypeFor[NetPortAttr](), reflect.TypeFor[theirs.NetPortAttr]()},
	} {
		ours, other := pair[0], pair[1]
		for i := range other.NumField() {
			want := other.Field(i)
			if field, ok := ours.FieldByName(want.Name); !ok || field.Offset != want.Offset {
				t.Errorf("%s.%s is at %d, want %d", ours, want.Name, field.Offset, want.Offset)
			}
		}
	}
	if size := unsafe.Sizeof(RulesetAttr{}); size != unsafe.Sizeof(theirs.RulesetAttr{}) {
		t.Errorf("a ruleset's attributes are %d bytes", size)
	}
}

// TestCalls makes each call on the running kernel, but the last one with a ruleset that
// is none: what restricts a thread is tested in package landlock.
func TestCalls(t *testing.T) {
	version, err := LandlockGetABIVersion()
	if err != nil {
		t.Fatal(err)
	}
	if want, err := theirs.LandlockGetABIVersion(); err != nil || version != want {
		t.Errorf("ABI %d, want %d, %v", version, want, err)
	}
	ruleset, err := LandlockCreateRuleset(&RulesetAttr{HandledAccessFS: AccessFSReadFile}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ruleset)
	root, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	rule := PathBeneathAttr{AllowedAccess: AccessFSReadFile, ParentFd: int32(root.Fd())}
	if err := LandlockAddPathBeneathRule(ruleset, &rule, 0); err != nil {
		t.Errorf("adding a rule: %v", err)
	}
	rule.AllowedAccess = AccessFSExecute // not handled
	if err := LandlockAddPathBeneathRule(ruleset, &rule, 0); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a rule about what is not handled: %v, want EINVAL", err)
	}
	if err := LandlockAddNetPortRule(ruleset, &NetPortAttr{AllowedAccess: AccessNetBindTCP, Port: 1},
		0); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a rule about a port, which is not handled: %v, want EINVAL", err)
	}
	if err := LandlockRestrictSelf(-1, 0); !errors.Is(err, unix.EBADF) && !errors.Is(err, unix.EPERM) {
		t.Errorf("no ruleset: %v, want EBADF, or EPERM without no_new_privs", err)
	}
}
