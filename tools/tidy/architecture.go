package tidy

import (
	"fmt"
	"io/fs"
	"regexp"
	"strings"
)

// pathInCode matches a path of this repository that a Markdown page has in backticks.
var pathInCode = regexp.MustCompile("`((?:bench|cmd|conf|engine|pipeline|rings|tools)/[\\w./*-]*)`")

// architecture requires that every path which ARCHITECTURE.md names exists: its three ways lead a
// reader from file to file.
func architecture(repo *Repo) (broken []string) {
	page, err := fs.ReadFile(repo.FS, "ARCHITECTURE.md")
	if err != nil {
		return []string{err.Error()}
	}
	for _, match := range pathInCode.FindAllSubmatch(page, -1) {
		path := string(match[1])
		found, err := fs.Glob(repo.FS, strings.TrimSuffix(path, "/"))
		if err != nil || len(found) == 0 {
			broken = append(broken, fmt.Sprintf("ARCHITECTURE.md names %s, which does not exist", path))
		}
	}
	return broken
}
