# Copyright The MOCO Authors.
# SPDX-License-Identifier: Apache-2.0
#
# The same image that hack/images.sh makes without a container engine.
# Build it from the root of the checkout:
#   docker build -f hack/images/moco-agent.Dockerfile -t moco-mysql/moco-agent:0.1.0 .
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags="-s -w -buildid=" -o /moco-agent ./cmd/moco-agent
# The program of the Jobs of backups: they copy it out of this image.
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags="-s -w -buildid=" -o /moco-backup ./cmd/moco-backup
# From it the agent loads MySQL's time zone tables.
RUN cp "$(go env GOROOT)/lib/time/zoneinfo.zip" /zoneinfo.zip

FROM scratch
COPY --from=build --chmod=0755 /moco-agent /moco-agent
COPY --from=build --chmod=0755 /moco-backup /moco-backup
COPY --from=build --chmod=0755 /zoneinfo.zip /zoneinfo.zip
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
USER 10000:10000
ENTRYPOINT ["/moco-agent"]
