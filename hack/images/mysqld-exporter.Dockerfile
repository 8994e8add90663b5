# Copyright The MOCO Authors.
# SPDX-License-Identifier: Apache-2.0
#
# The exporter's image of the local cluster, from the root file system that
# hack/mysql-rootfs.sh makes. On a cluster of your own, use the upstream one.
#   rootfs=$(hack/mysql-rootfs.sh)
#   docker build -f hack/images/mysqld-exporter.Dockerfile -t prom/mysqld-exporter:v0.19.0 "$rootfs"
FROM scratch
COPY usr/bin/prometheus-mysqld-exporter /bin/mysqld_exporter
COPY usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 /lib64/ld-linux-x86-64.so.2
COPY usr/lib/x86_64-linux-gnu/libc.so.6 /lib/x86_64-linux-gnu/libc.so.6
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
USER 65532:65532
ENTRYPOINT ["/bin/mysqld_exporter"]
