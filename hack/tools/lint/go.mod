module github.com/moco-mysql/moco/hack/tools/lint

go 1.26.0
