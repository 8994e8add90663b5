// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/moco-mysql/moco/test/cluster/command"
)

// reserve is the free space of the host's disk below which no volume is made.
const reserve = 5 << 30

// minSize is the least that mkfs.xfs accepts; a smaller volume gets as much.
const minSize = 300 << 20

// loopMajor is the device number of loop devices (devices.txt of the kernel).
const loopMajor = 7

// Disks makes the images and mounts them.
type Disks struct {
	// ImageDir holds the image files.
	ImageDir string
	// MountPoint returns where a node's volume is mounted.
	MountPoint func(node, name string) string
}

func (d Disks) image(name string) string { return filepath.Join(d.ImageDir, name+".img") }

// Make makes the volume of size bytes on node and returns its mount point. What
// an interrupted call left is taken over.
func (d Disks) Make(ctx context.Context, node, name string, size int64) (string, error) {
	if _, err := os.Stat(d.image(name)); errors.Is(err, fs.ErrNotExist) {
		if err := d.checkSpace(); err != nil {
			return "", fmt.Errorf("making volume %s: %w", name, err)
		}
		if err := format(ctx, d.image(name), size); err != nil {
			return "", fmt.Errorf("making volume %s: %w", name, err)
		}
	}
	return d.Mount(ctx, node, name)
}

// Mount mounts a volume that was made, unless it is mounted, and returns its
// mount point. It never makes one: an image that is gone is an error.
func (d Disks) Mount(ctx context.Context, node, name string) (string, error) {
	point := d.MountPoint(node, name)
	mounted, err := isMounted(point)
	if err != nil || mounted {
		return point, err
	}
	if _, err := os.Stat(d.image(name)); err != nil {
		return "", fmt.Errorf("mounting volume %s: %w", name, err)
	}
	if err := os.MkdirAll(point, 0o755); err != nil {
		return "", fmt.Errorf("mounting volume %s: %w", name, err)
	}
	device, err := d.attach(ctx, name)
	if err != nil {
		return "", fmt.Errorf("mounting volume %s: %w", name, err)
	}
	// With discard, space that is freed in the volume is freed on the host, too.
	if err := command.Run(ctx, "mount", "-t", "xfs", "-o", "discard,nouuid", device, point); err != nil {
		return "", fmt.Errorf("mounting volume %s: %w", name, err)
	}
	return point, nil
}

func (d Disks) checkSpace() error {
	var s unix.Statfs_t
	if err := unix.Statfs(d.ImageDir, &s); err != nil {
		return err
	}
	if free := int64(s.Bavail) * s.Bsize; free < reserve {
		return fmt.Errorf("the host's disk has %d MiB left; %d MiB are kept free", free>>20, int64(reserve)>>20)
	}
	return nil
}

// format makes the file system under another name first, so that a file with
// the volume's name is always whole.
func format(ctx context.Context, file string, size int64) error {
	partial := file + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return err
	}
	if err := command.Run(ctx, "truncate", "--size", fmt.Sprint(max(size, minSize)), partial); err != nil {
		return err
	}
	if err := command.Run(ctx, "mkfs.xfs", "-q", "-f", "-K", partial); err != nil {
		return err
	}
	return os.Rename(partial, file)
}

// device returns the loop device of the volume's image, empty when it has none.
func (d Disks) device(ctx context.Context, name string) (string, error) {
	out, err := command.Output(ctx, "losetup", "--list", "--noheadings", "--output=NAME", "--associated", d.image(name))
	return strings.TrimSpace(out), err
}

func (d Disks) attach(ctx context.Context, name string) (string, error) {
	device, err := d.device(ctx, name)
	if err != nil || device != "" {
		return device, err
	}
	if err := makeNode(ctx); err != nil {
		return "", err
	}
	out, err := command.Output(ctx, "losetup", "--find", "--show", "--direct-io=off", d.image(name))
	return strings.TrimSpace(out), err
}

// makeNode makes the device file of the next free loop device: where no udev
// runs, only the first few have one.
func makeNode(ctx context.Context) error {
	out, err := command.Output(ctx, "losetup", "--find")
	device := strings.TrimSpace(out)
	if err != nil {
		return err
	}
	if _, err := os.Stat(device); err == nil {
		return nil
	}
	var minor uint32
	if _, err := fmt.Sscanf(device, "/dev/loop%d", &minor); err != nil {
		return fmt.Errorf("reading the number of %s: %w", device, err)
	}
	err = unix.Mknod(device, syscall.S_IFBLK|0o600, int(unix.Mkdev(loopMajor, minor)))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// Grow grows the volume to size bytes while it is in use; it never shrinks one.
func (d Disks) Grow(ctx context.Context, node, name string, size int64) error {
	info, err := os.Stat(d.image(name))
	if err != nil {
		return fmt.Errorf("growing volume %s: %w", name, err)
	}
	device, err := d.device(ctx, name)
	if err != nil {
		return fmt.Errorf("growing volume %s: %w", name, err)
	}
	if size > info.Size() {
		if err := os.Truncate(d.image(name), size); err != nil {
			return fmt.Errorf("growing volume %s: %w", name, err)
		}
	}
	if err := command.All(ctx, "losetup --set-capacity "+device, "xfs_growfs "+d.MountPoint(node, name)); err != nil {
		return fmt.Errorf("growing volume %s: %w", name, err)
	}
	return nil
}

// Delete unmounts and removes the volume; what is gone already is no error.
func (d Disks) Delete(ctx context.Context, node, name string) error {
	point := d.MountPoint(node, name)
	mounted, err := isMounted(point)
	if err != nil {
		return fmt.Errorf("deleting volume %s: %w", name, err)
	}
	if mounted {
		if err := syscall.Unmount(point, 0); err != nil {
			return fmt.Errorf("deleting volume %s: unmounting: %w", name, err)
		}
	}
	device, err := d.device(ctx, name)
	if err != nil {
		return fmt.Errorf("deleting volume %s: %w", name, err)
	}
	if device != "" {
		if err := command.Run(ctx, "losetup", "--detach", device); err != nil {
			return fmt.Errorf("deleting volume %s: %w", name, err)
		}
	}
	return errors.Join(os.RemoveAll(d.image(name)), removeDir(point))
}

// removeDir removes an empty directory; it would not remove data.
func removeDir(dir string) error {
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func isMounted(point string) (bool, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, err
	}
	return strings.Contains(string(mounts), " "+point+" "), nil
}
