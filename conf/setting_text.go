package conf

import (
	"fmt"
	"strings"
	"time"
)

// meaning returns the text about the key, after the types of check that use it.
func (s *Setting) meaning() string {
	if s.Types == nil {
		return s.About
	}
	return strings.Join(s.Types, ", ") + ": " + s.About
}

// defaultText returns the default as in a file.
func (s *Setting) defaultText() string {
	switch v := s.Default.(type) {
	case int:
		return fmt.Sprintf("`%d`", v)
	case time.Duration:
		return fmt.Sprintf("`%q`", shortDuration(v))
	case string:
		return fmt.Sprintf("`%q`", v)
	}
	if s.Required {
		return "required"
	}
	return ""
}
