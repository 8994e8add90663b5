// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Command docgen writes the generated parts of the documentation: the reference of the API from the CRD, the table of
// accounts from pkg/agent, and the tables of options from pkg/mysql/mycnf. hack/update-docs.sh runs it in the checkout,
// hack/verify-docs.sh on a copy, to see that nothing changes.
//
// A whole page is generated when it says so in its first line; in other pages, what stands between the lines
// "<!-- BEGIN name -->" and "<!-- END name -->" is.
package main
