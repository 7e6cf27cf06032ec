package metrics_test

import (
	"bytes"
	"slices"
	"testing"

	"gopkg.in/yaml.v3"
)

// alertExprs parses the rules strictly, as Prometheus does.
func alertExprs(t *testing.T) map[string]string {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content(t, "sluice-alerts.yml")))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		t.Fatal(err)
	}
	exprs := map[string]string{}
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			if exprs[rule.Alert] != "" || rule.Expr == "" || rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
				t.Errorf("%s is there twice, or lacks something", rule.Alert)
			}
			if !slices.Contains([]string{"info", "warning", "critical"}, rule.Labels["severity"]) {
				t.Errorf("%s has severity %q", rule.Alert, rule.Labels["severity"])
			}
			exprs[rule.Alert] = rule.Expr
		}
	}
	return exprs
}
