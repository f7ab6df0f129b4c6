package sandbox

import (
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
)

func TestLimits(t *testing.T) {
	needSandbox(t)
	o := launchOptions{Policy: policy.Policy{Limits: []policy.Limit{{Name: "fsize", Soft: 4096, Hard: 8192},
		{Name: "nofile", Soft: 16, Hard: 20}, {Name: "nproc", Soft: 77, Hard: 777}}}}
	control, inside := outcomes(t, nil, "limits", "open-many-files"), outcomes(t, &o, "limits", "open-many-files")
	if want := "/20,4096/8192,77/777,1/1"; !strings.HasSuffix(inside["limits"], want) { // Go raises the very first
		t.Errorf("the limits are %s, should end in %s; without a sandbox %s", inside["limits"], want, control["limits"])
	}
	if control["open-many-files"] != "ok" || inside["open-many-files"] != "EMFILE" {
		t.Errorf("opening 64 files: %s, without a sandbox %s", inside["open-many-files"], control["open-many-files"])
	}
}
