package tidy

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	fenced  = regexp.MustCompile("(?ms)^```.*?^```$")
	manuals = regexp.MustCompile(`(?m)^MANUALS := \$\(wildcard (.*)\)$`)
	oddMark = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// Links requires every relative link of a page to lead to a file of the tree and, after a #, to a
// heading in it. Every page must be reachable from README.md, directly or through other pages. The
// tree is this repository, or an installed manual.
func Links(tree fs.FS) (broken []string) {
	reached := map[string]bool{"README.md": true}
	pages := []string{"README.md"}
	for len(pages) > 0 {
		page := pages[0]
		pages = pages[1:]
		text, err := fs.ReadFile(tree, page)
		if err != nil {
			return append(broken, err.Error())
		}
		for _, target := range targetsOf(text) {
			file, wrong := follow(tree, page, target)
			if wrong != "" {
				broken = append(broken, fmt.Sprintf("%s: (%s) %s", page, target, wrong))
			} else if path.Ext(file) == ".md" && !reached[file] {
				reached[file] = true
				pages = append(pages, file)
			}
		}
	}
	all, err := pagesOf(tree)
	if err != nil {
		return append(broken, err.Error())
	}
	for _, page := range all {
		if !reached[page] {
			broken = append(broken, page+" is not linked from any page: add it to the table in README.md")
		}
	}
	return broken
}

// manual requires that all pages and all files that they link to are installed: the Makefile's
// MANUALS, and the examples.
func manual(repo *Repo) (broken []string) {
	makefile, err := fs.ReadFile(repo.FS, "Makefile")
	if err != nil {
		return []string{err.Error()}
	}
	list := manuals.FindSubmatch(makefile)
	if list == nil {
		return []string{"Makefile has no line MANUALS := $(wildcard PATTERN...)"}
	}
	installed := map[string]bool{}
	for _, pattern := range append(strings.Fields(string(list[1])), "conf/examples/*.toml") {
		files, err := fs.Glob(repo.FS, pattern)
		if err != nil {
			broken = append(broken, "Makefile: MANUALS: "+pattern+": "+err.Error())
		}
		for _, file := range files {
			installed[file] = true
		}
	}
	pages, err := pagesOf(repo.FS)
	if err != nil {
		return append(broken, err.Error())
	}
	for _, page := range pages {
		if !installed[page] {
			broken = append(broken, page+" is not installed: add it to MANUALS in the Makefile")
		}
		text, err := fs.ReadFile(repo.FS, page)
		if err != nil {
			return append(broken, err.Error())
		}
		for _, target := range targetsOf(text) {
			if file := fileOf(page, target); !installed[file] {
				broken = append(broken, fmt.Sprintf("%s: (%s) is not installed: add it to MANUALS in the Makefile, or name it without a link", page, target))
			}
		}
	}
	return broken
}

// pagesOf returns the Markdown files of a tree, without test data and what git ignores.
func pagesOf(tree fs.FS) (pages []string, err error) {
	err = fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (slices.Contains(ignored, name) || entry.Name() == "testdata"):
			return fs.SkipDir
		case path.Ext(name) == ".md":
			pages = append(pages, name)
		}
		return nil
	})
	return pages, err
}

// targetsOf returns what the relative links of a page lead to.
func targetsOf(text []byte) (targets []string) {
	for _, found := range link.FindAllSubmatch(fenced.ReplaceAll(text, nil), -1) {
		if target := string(found[1]); !strings.Contains(target, "://") {
			targets = append(targets, target)
		}
	}
	return targets
}

// fileOf returns the file that a link of a page leads to.
func fileOf(page, target string) string {
	name, _, _ := strings.Cut(target, "#")
	if name == "" {
		return page
	}
	return path.Join(path.Dir(page), name)
}

// follow returns the file that a link of a page leads to, and what is wrong with the link.
func follow(tree fs.FS, page, target string) (file, wrong string) {
	_, anchor, _ := strings.Cut(target, "#")
	file = fileOf(page, target)
	if _, err := fs.Stat(tree, file); err != nil {
		return file, "does not exist"
	}
	if anchor == "" {
		return file, ""
	}
	text, err := fs.ReadFile(tree, file)
	if err != nil {
		return file, err.Error()
	}
	for _, title := range heading.FindAllSubmatch(fenced.ReplaceAll(text, nil), -1) {
		if anchorOf(string(title[1])) == anchor {
			return file, ""
		}
	}
	return file, "names a heading that the page does not have"
}

// anchorOf returns the anchor that forges give a heading.
func anchorOf(title string) string {
	return strings.ReplaceAll(strings.ToLower(oddMark.ReplaceAllString(strings.TrimSpace(title), "")), " ", "-")
}
