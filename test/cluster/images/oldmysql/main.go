// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Command oldmysql is a mysqld that is too old, for the tests of what an image
// with one gets: it tells a version that is refused and does nothing else.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Println("mysqld  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)")
	if len(os.Args) < 2 || (os.Args[1] != "--version" && os.Args[1] != "-V") {
		os.Exit(1)
	}
}
