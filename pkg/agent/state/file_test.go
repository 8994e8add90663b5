// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// older and newer are two states that differ in what matters most.
func older() Durable {
	return Durable{Incarnation: "one", PromisedEpoch: 4, PromisedClaim: "a", Counter: 10, BootID: "boot"}
}

func newer() Durable {
	d := older()
	d.PromisedEpoch, d.PromisedClaim, d.Counter, d.AckCount = 5, "b", 11, 1
	d.Record = &v1beta1.ReplicationRecord{Version: 1, Epoch: 5, Phase: v1beta1.RecordChosen, Claim: "b"}
	return d
}

// saved makes a file that held older and was saved as newer, and returns its path.
func saved(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state")
	file, err := Create(path, older())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(file.Save(newer()), file.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// reopened reads the file anew.
func reopened(t *testing.T, path string) (Durable, error) {
	t.Helper()
	file, d, err := Open(path)
	if err != nil {
		return d, err
	}
	return d, file.Close()
}

func overwrite(t *testing.T, path string, at int64, bytes []byte) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.WriteAt(bytes, at)
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestWhatWasSavedIsReadBack(t *testing.T) {
	got, err := reopened(t, saved(t))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(newer(), got); diff != "" {
		t.Errorf("state read back (-want +got):\n%s", diff)
	}
}

func TestAFileThatIsNotThereIsMissing(t *testing.T) {
	if _, err := reopened(t, filepath.Join(t.TempDir(), "state")); !errors.Is(err, ErrMissing) {
		t.Errorf("got %v, want ErrMissing", err)
	}
}

func TestCreateNeverReplacesAState(t *testing.T) {
	path := saved(t)
	if _, err := Create(path, older()); err == nil {
		t.Error("a second Create succeeded")
	}
	if got, err := reopened(t, path); err != nil || got.PromisedEpoch != newer().PromisedEpoch {
		t.Errorf("after a second Create: %+v, %v", got, err)
	}
}

// TestATornSaveIsTheStateBeforeOrAfter writes the slots of a Save up to every block boundary, as a crash may leave them.
func TestATornSaveIsTheStateBeforeOrAfter(t *testing.T) {
	const block = 512
	before, err := encodeSlot(7, older())
	if err != nil {
		t.Fatal(err)
	}
	after, err := encodeSlot(8, newer())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "state")
	for written := 0; written <= slotCount*SlotSize; written += block {
		content := append(append([]byte{}, before...), before...)
		whole := append(append([]byte{}, after...), after...)
		copy(content, whole[:written])
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := reopened(t, path)
		if err != nil {
			t.Fatalf("torn after %d bytes: %v", written, err)
		}
		if cmp.Diff(older(), got) != "" && cmp.Diff(newer(), got) != "" {
			t.Fatalf("torn after %d bytes: read %+v", written, got)
		}
		if written >= SlotSize && cmp.Diff(newer(), got) != "" {
			t.Fatalf("torn after %d bytes: the first slot was whole, but read %+v", written, got)
		}
	}
}

// TestOneFlippedByteLosesNothing flips bytes of either slot, all of the header among them: the other one holds the same.
func TestOneFlippedByteLosesNothing(t *testing.T) {
	path := saved(t)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := range content {
		if at%SlotSize > headerSize && at%11 != 0 {
			continue
		}
		overwrite(t, path, int64(at), []byte{content[at] ^ 0x40})
		got, err := reopened(t, path)
		if err != nil || cmp.Diff(newer(), got) != "" {
			t.Fatalf("byte %d flipped: read %+v, %v", at, got, err)
		}
		overwrite(t, path, int64(at), content[at:at+1])
	}
}

// TestAFlippedByteIsNoticed shows that it was the other slot that saved the day above.
func TestAFlippedByteIsNoticed(t *testing.T) {
	slot, err := encodeSlot(3, newer())
	if err != nil {
		t.Fatal(err)
	}
	for at := range slot {
		slot[at] ^= 0x40
		if _, d, err := decodeSlot(slot); err == nil {
			t.Fatalf("byte %d flipped: accepted as %+v", at, d)
		}
		slot[at] ^= 0x40
	}
}

func TestTwoDamagedSlotsAreUnreadable(t *testing.T) {
	path := saved(t)
	overwrite(t, path, 100, []byte{0xff})
	overwrite(t, path, SlotSize+100, []byte{0xff})
	if _, err := reopened(t, path); !errors.Is(err, ErrUnreadable) {
		t.Errorf("got %v, want ErrUnreadable", err)
	}
}

func TestAStateThatIsTooLargeChangesNothing(t *testing.T) {
	path := saved(t)
	file, _, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	large := newer()
	large.PromisedClaim = string(make([]byte, SlotSize))
	if err := file.Save(large); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := reopened(t, path); err != nil || cmp.Diff(newer(), got) != "" {
		t.Errorf("after a Save that was too large: %+v, %v", got, err)
	}
}

// TestAPromiseCanBeSavedOnAFullVolume fills a small file system of its own to the last block.
func TestAPromiseCanBeSavedOnAFullVolume(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("state-test", dir, "tmpfs", 0, "size=512k"); err != nil {
		t.Fatalf("mounting a small file system (the tests run as root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(dir, "state")
	file, err := Create(path, older())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("filling the volume: %v, want no space left", err)
	}
	if err := errors.Join(file.Save(newer()), file.Close()); err != nil {
		t.Fatal(err)
	}
	if got, err := reopened(t, path); err != nil || cmp.Diff(newer(), got) != "" {
		t.Errorf("after a Save on a full volume: %+v, %v", got, err)
	}
}
