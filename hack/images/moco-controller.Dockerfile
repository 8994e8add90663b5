# Copyright The MOCO Authors.
# SPDX-License-Identifier: Apache-2.0
#
# The same image that hack/images.sh makes without a container engine.
# Build it from the root of the checkout:
#   docker build -f hack/images/moco-controller.Dockerfile -t moco-mysql/moco-controller:0.1.0 .
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags="-s -w -buildid=" -o /moco-controller ./cmd/moco-controller

FROM scratch
COPY --from=build --chmod=0755 /moco-controller /moco-controller
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
USER 10000:10000
ENTRYPOINT ["/moco-controller"]
