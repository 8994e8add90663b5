// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package seal_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/moco-mysql/moco/pkg/backup/seal"
)

// pair returns an age key pair.
func pair(t *testing.T) (identity, recipient string) {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return key.String(), key.Recipient().String()
}

// hybridPair returns a key pair that withstands quantum computers.
func hybridPair(t *testing.T) (identity, recipient string) {
	t.Helper()
	key, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return key.String(), key.Recipient().String()
}

// content is half random and half repeated, always the same for a length.
func content(n int) []byte {
	random := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		if i%4096 < 2048 {
			b[i] = byte(random.Uint32())
		}
	}
	return b
}

func sealed(t *testing.T, raw []byte, recipients string, o seal.Options) ([]byte, *seal.Writer) {
	t.Helper()
	var out bytes.Buffer
	w, err := seal.NewWriterWith(&out, recipients, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, iotest.OneByteReader(bytes.NewReader(raw[:min(len(raw), 10)]))); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(raw[min(len(raw), 10):]); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), w
}

func open(stored io.Reader, identity string, o seal.Options) ([]byte, *seal.Reader, error) {
	r, err := seal.NewReaderWith(stored, identity, o)
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	raw, err := io.ReadAll(r)
	return raw, r, err
}

func sum(b []byte) seal.Sum {
	s := sha256.Sum256(b)
	return seal.Sum{Bytes: int64(len(b)), SHA256: hex.EncodeToString(s[:])}
}

func TestWhatWasSealedIsReadAgain(t *testing.T) {
	identity, recipient := pair(t)
	other, otherRecipient := pair(t)
	hybrid, hybridRecipient := hybridPair(t)
	for name, keys := range map[string]struct{ recipients, identity string }{
		"without a key": {},
		"without encryption although there is a key": {identity: identity},
		"for one key":                                   {recipient, identity},
		"for two keys with the first":                   {"# ours\n" + recipient + "\n\n" + otherRecipient + "\n", identity},
		"for two keys with the second among others":     {recipient + "\n" + otherRecipient, "# old\n" + hybrid + "\n" + other + "\n"},
		"for a key that withstands a quantum computer":  {hybridRecipient, hybrid},
		"with lines that end as those of other systems": {recipient + "\r\n", identity + "\r\n"},
	} {
		for _, size := range []int{0, 1, 4096, 64 << 10, 3<<20 + 17} {
			for _, concurrency := range []int{1, 4} {
				t.Run(fmt.Sprintf("%s, %d bytes, %d cores", name, size, concurrency), func(t *testing.T) {
					o := seal.Options{Concurrency: concurrency}
					raw := content(size)
					stored, w := sealed(t, raw, keys.recipients, o)
					got, r, err := open(iotest.HalfReader(bytes.NewReader(stored)), keys.identity, o)
					if err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(raw, got) {
						t.Error("what was read is not what was sealed")
					}
					want := []seal.Sum{sum(raw), sum(stored), sum(raw), sum(stored)}
					if diff := cmp.Diff(want, []seal.Sum{w.Raw(), w.Stored(), r.Raw(), r.Stored()}); diff != "" {
						t.Errorf("sums (-want +got):\n%s", diff)
					}
				})
			}
		}
	}
}

func TestOrdinaryToolsReadIt(t *testing.T) {
	identity, recipient := pair(t)
	raw := content(100_000)
	stored, _ := sealed(t, raw, recipient, seal.Options{})
	key, err := age.ParseX25519Identity(identity)
	if err != nil {
		t.Fatal(err)
	}
	decrypted, err := age.Decrypt(bytes.NewReader(stored), key)
	if err != nil {
		t.Fatal(err)
	}
	decompressed, err := zstd.NewReader(decrypted)
	if err != nil {
		t.Fatal(err)
	}
	defer decompressed.Close()
	got, err := io.ReadAll(decompressed)
	if err != nil || !bytes.Equal(raw, got) {
		t.Errorf("age and zstd read something else (%v)", err)
	}
}

func TestWrongKeysAreToldApart(t *testing.T) {
	identity, recipient := pair(t)
	other, _ := pair(t)
	plain, _ := sealed(t, content(100), "", seal.Options{})
	encrypted, _ := sealed(t, content(100), recipient, seal.Options{})
	for name, test := range map[string]struct {
		stored   []byte
		identity string
		want     error
	}{
		"encrypted and no private key":            {encrypted, "", seal.ErrWrongKey},
		"encrypted for another key":               {encrypted, other, seal.ErrWrongKey},
		"a public key in place of the private":    {encrypted, recipient, seal.ErrKeys},
		"an identity without a key":               {encrypted, "# nothing\n", seal.ErrKeys},
		"an identity that is none":                {encrypted, identity[:len(identity)-1], seal.ErrKeys},
		"not encrypted and whatever for identity": {plain, "nonsense", nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := open(bytes.NewReader(test.stored), test.identity, seal.Options{})
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), strings.TrimPrefix(identity, "AGE-SECRET-KEY-1")[:8]) {
				t.Errorf("the error quotes the key: %v", err)
			}
		})
	}
}

func TestKeysAreCheckedBeforeTheyAreUsed(t *testing.T) {
	identity, recipient := pair(t)
	for name, test := range map[string]struct {
		check func(string) error
		keys  string
		want  error
	}{
		"no recipients":                    {seal.CheckRecipients, "", nil},
		"one recipient":                    {seal.CheckRecipients, recipient, nil},
		"recipients of nothing but spaces": {seal.CheckRecipients, " \n", seal.ErrKeys},
		"a damaged recipient":              {seal.CheckRecipients, recipient + "q", seal.ErrKeys},
		"a private key as recipient":       {seal.CheckRecipients, identity, seal.ErrKeys},
		"too many recipients":              {seal.CheckRecipients, strings.Repeat(recipient+"\n", 65), seal.ErrKeys},
		"no identity":                      {seal.CheckIdentity, "", nil},
		"one identity":                     {seal.CheckIdentity, identity, nil},
		"a recipient as identity":          {seal.CheckIdentity, recipient, seal.ErrKeys},
		"a damaged identity":               {seal.CheckIdentity, identity[:20], seal.ErrKeys},
	} {
		t.Run(name, func(t *testing.T) {
			if err := test.check(test.keys); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
	if _, err := seal.NewWriter(io.Discard, "nonsense"); !errors.Is(err, seal.ErrKeys) {
		t.Errorf("a writer for nonsense: %v", err)
	}
}

// TestEveryAlterationIsFound cuts a stream off at every length, and flips every byte, of a short stream.
func TestEveryAlterationIsFound(t *testing.T) {
	identity, recipient := pair(t)
	raw := content(300)
	for name, recipients := range map[string]string{"plain": "", "encrypted": recipient} {
		stored, _ := sealed(t, raw, recipients, seal.Options{})
		for n := range stored {
			if _, _, err := open(bytes.NewReader(stored[:n]), identity, seal.Options{}); !errors.Is(err, seal.ErrDamaged) || errors.Is(err, io.EOF) {
				t.Errorf("%s, cut off after %d of %d bytes: got %v, want ErrDamaged", name, n, len(stored), err)
			}
			flipped := bytes.Clone(stored)
			flipped[n] ^= 0x10
			got, _, err := open(bytes.NewReader(flipped), identity, seal.Options{})
			// A bit of a header may mean nothing: the content is what counts.
			if (err == nil && !bytes.Equal(got, raw)) || errors.Is(err, io.EOF) {
				t.Errorf("%s, byte %d altered: read other content with the error %v", name, n, err)
			}
		}
		longer := append(bytes.Clone(stored), "more"...)
		if _, _, err := open(bytes.NewReader(longer), identity, seal.Options{}); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("%s, bytes behind the end: got %v, want ErrDamaged", name, err)
		}
	}
}

func TestSomethingElseIsNoSealedStream(t *testing.T) {
	for name, stored := range map[string]string{
		"nothing":        "",
		"a few bytes":    "ab",
		"text":           strings.Repeat("text ", 100),
		"a future crypt": "age-encryption.org/v9\n-> ",
	} {
		t.Run(name, func(t *testing.T) {
			identity, _ := pair(t)
			if _, _, err := open(strings.NewReader(stored), identity, seal.Options{}); !errors.Is(err, seal.ErrDamaged) {
				t.Errorf("got %v, want ErrDamaged", err)
			}
		})
	}
}

// TestAFailingSourceIsNotCalledDamaged lets the source fail at every place, with an error that wraps io.EOF as those of
// connections do.
func TestAFailingSourceIsNotCalledDamaged(t *testing.T) {
	identity, recipient := pair(t)
	broken := fmt.Errorf("the connection broke: %w", io.EOF)
	for _, concurrency := range []int{1, 2} {
		o := seal.Options{Concurrency: concurrency}
		for _, recipients := range []string{"", recipient} {
			stored, _ := sealed(t, content(3000), recipients, o)
			for n := range stored {
				source := io.MultiReader(bytes.NewReader(stored[:n]), iotest.ErrReader(broken))
				if _, _, err := open(source, identity, o); !errors.Is(err, broken) || errors.Is(err, seal.ErrDamaged) {
					t.Fatalf("broken after %d bytes, recipients %q: got %v", n, recipients, err)
				}
			}
		}
	}
}

// full takes n bytes and no more.
type full struct{ n int }

var errFull = errors.New("full")

func (f *full) Write(p []byte) (int, error) {
	n := min(len(p), f.n)
	f.n -= n
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

func TestAFailingDestinationEndsTheWriter(t *testing.T) {
	_, recipient := pair(t)
	for _, recipients := range []string{"", recipient} {
		for _, room := range []int{300, 5000, 200_000} {
			w, err := seal.NewWriter(&full{n: room}, recipients)
			if err != nil {
				t.Fatal(err)
			}
			_, written := w.Write(content(1 << 20))
			closed := w.Close()
			if !errors.Is(written, errFull) && !errors.Is(closed, errFull) {
				t.Errorf("room for %d bytes: writing %v, closing %v", room, written, closed)
			}
			if err := w.Close(); err != nil {
				t.Errorf("closing a second time: %v", err)
			}
			if _, err := w.Write([]byte("x")); err == nil {
				t.Error("a closed writer took more")
			}
		}
	}
}

func FuzzReader(f *testing.F) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		f.Fatal(err)
	}
	for _, recipients := range []string{"", key.Recipient().String()} {
		var out bytes.Buffer
		w, err := seal.NewWriter(&out, recipients)
		if err != nil {
			f.Fatal(err)
		}
		_, _ = w.Write(content(200))
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		f.Add(out.Bytes())
	}
	f.Fuzz(func(t *testing.T, stored []byte) {
		r, err := seal.NewReader(bytes.NewReader(stored), key.String())
		if err != nil {
			if !errors.Is(err, seal.ErrDamaged) && !errors.Is(err, seal.ErrWrongKey) {
				t.Fatalf("got %v", err)
			}
			return
		}
		defer r.Close()
		if _, err = io.CopyN(io.Discard, r, 64<<20); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, seal.ErrDamaged) {
			t.Fatalf("got %v", err)
		}
		if err == nil && r.Stored().Bytes > int64(len(stored)) {
			t.Fatalf("read %d bytes of %d", r.Stored().Bytes, len(stored))
		}
	})
}
