# Copyright The MOCO Authors.
# SPDX-License-Identifier: Apache-2.0
#
# The MySQL image of the local cluster, from the root file system that
# hack/mysql-rootfs.sh makes. On a cluster of your own, use an official one.
#   rootfs=$(hack/mysql-rootfs.sh)
#   docker build -f hack/images/mysql.Dockerfile -t mysql:9.7.4 "$rootfs"
FROM scratch
COPY . /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
USER 999:999
CMD ["mysqld"]
