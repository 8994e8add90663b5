// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	docs := flag.String("docs", "docs", "directory of the documentation")
	flag.Parse()
	if err := run(*docs, "."); err != nil {
		fmt.Fprintln(os.Stderr, "docgen:", err)
		os.Exit(1)
	}
}

// run generates everything below docs from the checkout.
func run(docs, checkout string) error {
	reference, err := apiPage(checkout)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(docs, "api.md"), []byte(reference), 0o644); err != nil {
		return fmt.Errorf("writing the API reference: %w", err)
	}
	guarded, err := os.ReadFile(filepath.Join(checkout, "pkg/mysql/mycnf/guarded.go"))
	if err != nil {
		return fmt.Errorf("reading the refused options: %w", err)
	}
	refused, err := refusedOptions(guarded)
	if err != nil {
		return err
	}
	derived, err := derivedOptions()
	if err != nil {
		return err
	}
	return insertAll(docs, map[string]map[string]string{
		"accounts.md": {"accounts": accountTable(), "root": rootPrivileges()},
		"settings.md": {
			"forced": forcedOptions(sectionForced), "boot": forcedOptions(sectionBoot),
			"defaults": forcedOptions(sectionDefaults), "derived": derived, "refused": refused,
		},
	})
}

// mainCRD comes first on the page; the paths of its fields stand there without its name.
const mainCRD = "10-crd-mysqlclusters.yaml"

// apiPage makes the reference of all kinds.
func apiPage(checkout string) (string, error) {
	others, err := filepath.Glob(filepath.Join(checkout, "manifests/10-crd-*.yaml"))
	if err != nil {
		return "", fmt.Errorf("looking for CRDs: %w", err)
	}
	page := apiMark
	for _, path := range append([]string{filepath.Join(checkout, "manifests", mainCRD)}, others...) {
		prefix := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "10-crd-"), "s.yaml") + "."
		if filepath.Base(path) == mainCRD {
			if page != apiMark {
				continue // it was the first
			}
			prefix = ""
		}
		crd, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("reading the CRD: %w", err)
		}
		part, err := apiReference(crd, prefix)
		if err != nil {
			return "", err
		}
		if prefix != "" {
			page += "\n"
		}
		page += part
	}
	return page, nil
}

// insertAll puts generated blocks into pages.
func insertAll(docs string, pages map[string]map[string]string) error {
	for page, blocks := range pages {
		path := filepath.Join(docs, page)
		content, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("reading %s: %w", page, err)
		}
		text := string(content)
		for name, block := range blocks {
			if text, err = insert(text, name, block); err != nil {
				return fmt.Errorf("filling %s: %w", page, err)
			}
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return fmt.Errorf("writing %s: %w", page, err)
		}
	}
	return nil
}

// insert replaces what stands between the marks of a block.
func insert(text, name, block string) (string, error) {
	begin, end := "<!-- BEGIN "+name+" -->\n", "<!-- END "+name+" -->\n"
	before, rest, found := strings.Cut(text, begin)
	if !found {
		return "", fmt.Errorf("there is no line %q", strings.TrimSpace(begin))
	}
	_, after, found := strings.Cut(rest, end)
	if !found {
		return "", fmt.Errorf("there is no line %q after its beginning", strings.TrimSpace(end))
	}
	return before + begin + strings.TrimRight(block, "\n") + "\n" + end + after, nil
}

// table renders a Markdown table; rows have as many cells as head.
func table(head []string, rows [][]string) string {
	var b strings.Builder
	line := func(cells []string) {
		b.WriteString("|")
		for _, c := range cells {
			b.WriteString(" " + cell(c) + " |")
		}
		b.WriteString("\n")
	}
	line(head)
	b.WriteString("|" + strings.Repeat(" --- |", len(head)) + "\n")
	for _, row := range rows {
		line(row)
	}
	return b.String()
}

// cell keeps a text within its cell.
func cell(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", `\|`)
}

// code marks literal text; "" stays empty.
func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}
