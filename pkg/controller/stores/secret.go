// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package stores

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// Keys of the Secrets for encryption.
const (
	keyRecipients = "recipients"
	keyIdentity   = "identity"
)

// Reader returns the content of one Secret; apierrors.IsNotFound tells of its error that there is none.
type Reader func(ctx context.Context, namespace, name string) (map[string][]byte, error)

// NewReader reads Secrets live.
func NewReader(client kubernetes.Interface) Reader {
	return func(ctx context.Context, namespace, name string) (map[string][]byte, error) {
		found, err := client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, err // whoever asked knows the name
		}
		return found.Data, nil
	}
}

// Reason says what is wrong with a Secret, for programs.
type Reason string

// The reasons.
const (
	ReasonMissing Reason = "SecretMissing" // there is no such Secret, or it lacks a key
	ReasonInvalid Reason = "SecretInvalid" // the value of a key cannot be used
)

// Problem is what a user has to mend in a Secret. It is an error.
type Problem struct {
	Reason Reason
	// Message in a sentence: the field, the Secret, the key and what to do.
	Message string
}

// Error implements error.
func (p *Problem) Error() string { return p.Message }

// AsProblem returns the *Problem in an error, or nil when it is of another kind.
func AsProblem(err error) *Problem {
	var problem *Problem
	if errors.As(err, &problem) {
		return problem
	}
	return nil
}

// Recipients returns the age public keys of an encryption, one for each line; "" for none. Field is where the encryption
// stands in its object.
func Recipients(ctx context.Context, read Reader, namespace, field string, encryption *v1beta1.Encryption) (string, error) {
	if encryption == nil {
		return "", nil
	}
	ref := secretRef{field + ".recipientsSecretRef", namespace, encryption.RecipientsSecretRef.Name}
	return single(ctx, read, ref, key{name: keyRecipients, check: recipients})
}

// Identity returns the age private keys that a Secret holds, one for each line; "" without a reference. Field is the
// reference's own.
func Identity(ctx context.Context, read Reader, namespace, field string, ref *corev1.LocalObjectReference) (string, error) {
	if ref == nil {
		return "", nil
	}
	return single(ctx, read, secretRef{field, namespace, ref.Name}, key{name: keyIdentity, check: identities})
}

// secretRef is a Secret and the field that names it.
type secretRef struct{ field, namespace, name string }

// check returns what is wrong with a value, without the value; "" when nothing is.
type check func(value string) string

// key is a key of a Secret.
type key struct {
	name  string
	check check
	// optional keys may be missing.
	optional bool
}

func single(ctx context.Context, read Reader, ref secretRef, wanted key) (string, error) {
	values, err := collect(ctx, read, ref, wanted)
	if err != nil {
		return "", err
	}
	return values[wanted.name], nil
}

// credentials reads the keys of a store; each may come with a CA.
func credentials(ctx context.Context, read Reader, ref secretRef, keys ...key) (map[string]string, error) {
	return collect(ctx, read, ref, append(keys, key{keyAuthority, certificates, true})...)
}

// collect reads a Secret and returns the keys asked for, without white space around their values: files from which Secrets
// are made end with a newline.
func collect(ctx context.Context, read Reader, ref secretRef, keys ...key) (map[string]string, error) {
	data, err := read(ctx, ref.namespace, ref.name)
	if apierrors.IsNotFound(err) {
		return nil, &Problem{ReasonMissing, fmt.Sprintf("%s: Secret %q does not exist in namespace %s; create it with %s", ref.field, ref.name, ref.namespace, needs(keys))}
	}
	if err != nil {
		return nil, fmt.Errorf("reading Secret %s: %w", ref.name, err)
	}
	values := map[string]string{}
	for _, k := range keys {
		value := strings.TrimSpace(string(data[k.name]))
		if value == "" {
			if !k.optional {
				return nil, &Problem{ReasonMissing, fmt.Sprintf("%s: Secret %q has no key %q; it needs %s", ref.field, ref.name, k.name, needs(keys))}
			}
			continue
		}
		if wrong := k.check(value); wrong != "" {
			return nil, &Problem{ReasonInvalid, fmt.Sprintf("%s: key %q of Secret %q %s", ref.field, k.name, ref.name, wrong)}
		}
		values[k.name] = value
	}
	return values, nil
}

// needs names the required keys.
func needs(keys []key) string {
	var names []string
	for _, k := range keys {
		if !k.optional {
			names = append(names, k.name)
		}
	}
	if len(names) == 1 {
		return "the key " + names[0]
	}
	return "the keys " + strings.Join(names, " and ")
}

func oneLine(value string) string {
	if strings.ContainsAny(value, "\r\n") {
		return "has more than one line"
	}
	return ""
}

func jsonObject(value string) string {
	var object map[string]any
	if json.Unmarshal([]byte(value), &object) != nil {
		return "is not the JSON file of a service account"
	}
	return ""
}

func base64Text(value string) string {
	if _, err := base64.StdEncoding.DecodeString(value); err != nil {
		return "is not an account key, which is base64"
	}
	return ""
}

func certificates(value string) string {
	if !x509.NewCertPool().AppendCertsFromPEM([]byte(value)) {
		return "holds no certificate in PEM"
	}
	return ""
}

func recipients(value string) string {
	if _, err := age.ParseRecipients(strings.NewReader(value)); err != nil {
		return "does not list age public keys, one for each line, each beginning with age1"
	}
	return ""
}

func identities(value string) string {
	if _, err := age.ParseIdentities(strings.NewReader(value)); err != nil {
		return "does not list age private keys, one for each line, each beginning with AGE-SECRET-KEY-1"
	}
	return ""
}
