// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package stores

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

const hidden = "do-not-print-this"

var named = corev1.LocalObjectReference{Name: "keys"}

// secrets reads from a fake that holds one Secret named keys in namespace shop.
func secrets(data map[string]string) Reader {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "keys"}, Data: map[string][]byte{}}
	for key, value := range data {
		secret.Data[key] = []byte(value)
	}
	return NewReader(fake.NewClientset(secret))
}

func TestAStoreIsHandedOnWithTheKeysItNeeds(t *testing.T) {
	key := base64.StdEncoding.EncodeToString([]byte(hidden))
	cases := map[string]struct {
		store v1beta1.Store
		data  map[string]string
		want  wire.Store
		claim string
	}{
		"S3": {
			v1beta1.Store{Prefix: "a/b", S3: &v1beta1.S3Store{Bucket: "backups", Endpoint: "https://s3.example.com", Region: "eu-1", PathStyle: true, CredentialsSecretRef: named}},
			map[string]string{"accessKeyID": "id\n", "secretAccessKey": " " + hidden + "\n", "sessionToken": "token", "another": "stays here"},
			wire.Store{
				Provider: wire.ProviderS3, Bucket: "backups", Endpoint: "https://s3.example.com", Region: "eu-1", PathStyle: true, Prefix: "a/b",
				Credentials: map[string]string{"accessKeyID": "id", "secretAccessKey": hidden, "sessionToken": "token"},
			},
			"",
		},
		"GCS": {
			v1beta1.Store{GCS: &v1beta1.GCSStore{Bucket: "backups", CredentialsSecretRef: named}},
			map[string]string{"serviceAccount.json": `{"type":"service_account"}`},
			wire.Store{Provider: wire.ProviderGCS, Bucket: "backups", Credentials: map[string]string{"serviceAccount.json": `{"type":"service_account"}`}},
			"",
		},
		"Azure": {
			v1beta1.Store{Azure: &v1beta1.AzureStore{Container: "backups", Account: "acme", CredentialsSecretRef: named}},
			map[string]string{"accountKey": key},
			wire.Store{Provider: wire.ProviderAzure, Bucket: "backups", Account: "acme", Credentials: map[string]string{"accountKey": key}},
			"",
		},
		"a volume": {
			v1beta1.Store{Prefix: "p", Volume: &v1beta1.VolumeStore{ClaimName: "nas"}},
			nil,
			wire.Store{Provider: wire.ProviderVolume, Directory: "/store", Prefix: "p"},
			"nas",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := Convert(t.Context(), secrets(c.data), "shop", "spec.store", &c.store)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if ClaimName(&c.store) != c.claim || (SecretName(&c.store) == "") != (c.claim != "") {
				t.Errorf("claim %q, Secret %q", ClaimName(&c.store), SecretName(&c.store))
			}
		})
	}
}

func TestWhatIsWrongWithASecretIsNamed(t *testing.T) {
	s3 := &v1beta1.Store{S3: &v1beta1.S3Store{Bucket: "backups", CredentialsSecretRef: named}}
	gcs := &v1beta1.Store{GCS: &v1beta1.GCSStore{Bucket: "backups", CredentialsSecretRef: named}}
	azure := &v1beta1.Store{Azure: &v1beta1.AzureStore{Container: "backups", Account: "acme", CredentialsSecretRef: named}}
	whole := map[string]string{"accessKeyID": "id", "secretAccessKey": hidden}
	convert := func(store *v1beta1.Store, namespace string) func(*testing.T, Reader) error {
		return func(t *testing.T, read Reader) error {
			_, err := Convert(t.Context(), read, namespace, "spec.store", store)
			return err
		}
	}
	recipients := func(t *testing.T, read Reader) error {
		_, err := Recipients(t.Context(), read, "shop", "spec.encryption", &v1beta1.Encryption{RecipientsSecretRef: named})
		return err
	}
	identity := func(t *testing.T, read Reader) error {
		_, err := Identity(t.Context(), read, "shop", "spec.identitySecretRef", &named)
		return err
	}
	cases := map[string]struct {
		do     func(*testing.T, Reader) error
		data   map[string]string
		reason Reason
		says   []string
	}{
		"there is none in this namespace": {convert(s3, "bank"), whole, ReasonMissing, []string{"spec.store.s3.credentialsSecretRef", `"keys"`, "bank", "accessKeyID and secretAccessKey"}},
		"a key is missing":                {convert(s3, "shop"), map[string]string{"accessKeyID": "id"}, ReasonMissing, []string{`"keys"`, `"secretAccessKey"`}},
		"a key is empty":                  {convert(s3, "shop"), map[string]string{"accessKeyID": "id", "secretAccessKey": "\n"}, ReasonMissing, []string{`"secretAccessKey"`}},
		"a key has several lines":         {convert(s3, "shop"), map[string]string{"accessKeyID": "id", "secretAccessKey": hidden + "\n" + hidden}, ReasonInvalid, []string{`"secretAccessKey"`, "line"}},
		"the CA is no certificate":        {convert(s3, "shop"), map[string]string{"accessKeyID": "id", "secretAccessKey": hidden, "ca.crt": hidden}, ReasonInvalid, []string{`"ca.crt"`, "PEM"}},
		"the account is no JSON":          {convert(gcs, "shop"), map[string]string{"serviceAccount.json": hidden}, ReasonInvalid, []string{"spec.store.gcs", `"serviceAccount.json"`, "JSON"}},
		"the account key is no base64":    {convert(azure, "shop"), map[string]string{"accountKey": hidden}, ReasonInvalid, []string{"spec.store.azure", `"accountKey"`, "base64"}},
		"no recipients":                   {recipients, nil, ReasonMissing, []string{"spec.encryption.recipientsSecretRef", `"recipients"`}},
		"recipients that are none":        {recipients, map[string]string{"recipients": hidden}, ReasonInvalid, []string{`"recipients"`, "age1"}},
		"an identity that is none":        {identity, map[string]string{"identity": hidden}, ReasonInvalid, []string{"spec.identitySecretRef", `"identity"`, "AGE-SECRET-KEY-1"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			problem := AsProblem(c.do(t, secrets(c.data)))
			if problem == nil || problem.Reason != c.reason {
				t.Fatalf("%+v", problem)
			}
			for _, text := range c.says {
				if !strings.Contains(problem.Message, text) {
					t.Errorf("%q does not name %q", problem.Message, text)
				}
			}
			if strings.Contains(problem.Message, hidden) {
				t.Error("the value of a key is told")
			}
		})
	}
}

func TestKeysOfAgeAreHandedOnWhole(t *testing.T) {
	first, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	second, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	public := "# two\n" + first.Recipient().String() + "\n" + second.Recipient().String()
	private := first.String() + "\n" + second.String()
	read := secrets(map[string]string{"recipients": public + "\n", "identity": private})
	got, err := Recipients(t.Context(), read, "shop", "spec.encryption", &v1beta1.Encryption{RecipientsSecretRef: named})
	if err != nil || got != public {
		t.Errorf("recipients %q, %v", got, err)
	}
	got, err = Identity(t.Context(), read, "shop", "spec.identitySecretRef", &named)
	if err != nil || got != private {
		t.Errorf("identity %t, %v", got == private, err)
	}
	none, err := Recipients(t.Context(), read, "shop", "spec.encryption", nil)
	if err != nil || none != "" {
		t.Errorf("without encryption: %q, %v", none, err)
	}
	none, err = Identity(t.Context(), read, "shop", "spec.identitySecretRef", nil)
	if err != nil || none != "" {
		t.Errorf("without a reference: %q, %v", none, err)
	}
}

func TestASecretThatCannotBeReadIsNoProblemOfTheUsers(t *testing.T) {
	client := fake.NewClientset()
	broken := errors.New("the API server is away")
	client.PrependReactor("get", "secrets", func(k8stesting.Action) (bool, runtime.Object, error) { return true, nil, broken })
	_, err := Identity(t.Context(), NewReader(client), "shop", "spec.identitySecretRef", &named)
	if !errors.Is(err, broken) || AsProblem(err) != nil {
		t.Errorf("%v", err)
	}
}

func TestAStoreWithoutAProviderIsRefused(t *testing.T) {
	if _, err := Convert(t.Context(), secrets(nil), "shop", "spec.store", &v1beta1.Store{}); !errors.Is(err, ErrNoStore) {
		t.Errorf("%v", err)
	}
}
