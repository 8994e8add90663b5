// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

func TestAccountSecretKeepsWhatIsIntact(t *testing.T) {
	zero := strings.Repeat("A", passwordLength)
	cases := map[string]struct {
		live     map[string][]byte
		password string
	}{
		"there is none":              {nil, zero},
		"the password was emptied":   {map[string][]byte{KeyUsername: []byte("moco-monitoring"), KeyPassword: {}}, zero},
		"the user name was emptied":  {map[string][]byte{KeyUsername: {}, KeyPassword: []byte("mine")}, "mine"},
		"the password is a user's":   {map[string][]byte{KeyUsername: []byte("moco-monitoring"), KeyPassword: []byte("own#1")}, "own#1"},
		"the password has a newline": {map[string][]byte{KeyPassword: []byte("a\nb")}, zero},
		"the password is no text":    {map[string][]byte{KeyPassword: {0xff}}, zero},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			secret := must[*corev1.Secret](t)(AccountSecret(newCluster(nil), AccountMonitoring, tc.live, zeros{}))
			if got := string(secret.Data[KeyPassword]); got != tc.password {
				t.Errorf("password %q, want %q", got, tc.password)
			}
			if got := string(secret.Data[KeyUsername]); got != "moco-monitoring" {
				t.Errorf("user name %q", got)
			}
			if got := string(secret.Data[KeyMyCnf]); !strings.Contains(got, tc.password) {
				t.Errorf("the exporter's options lack the password: %q", got)
			}
		})
	}
}

func TestOnlyTheMonitoringSecretHasOptions(t *testing.T) {
	for _, account := range Accounts() {
		secret := must[*corev1.Secret](t)(AccountSecret(newCluster(nil), account, nil, rand.Reader))
		_, has := secret.Data[KeyMyCnf]
		if has != (account == AccountMonitoring) {
			t.Errorf("%s: has options: %v", account, has)
		}
		if strings.Trim(string(secret.Data[KeyPassword]), passwordAlphabet) != "" || len(secret.Data[KeyPassword]) < 32 {
			t.Errorf("%s: the password is not 32 safe characters", account)
		}
	}
}

func TestApplicationSecretNeedsAUser(t *testing.T) {
	for name, bootstrap := range map[string]*v1beta1.Bootstrap{"no bootstrap": nil, "a database alone": {Database: "d"}} {
		secret, err := ApplicationSecret(newCluster(func(c *v1beta1.MySQLCluster) { c.Spec.Bootstrap = bootstrap }), nil, zeros{})
		if secret != nil || err != nil {
			t.Errorf("%s: %v, %v", name, secret, err)
		}
	}
}

func TestURIEscapesThePassword(t *testing.T) {
	cluster := newCluster(func(c *v1beta1.MySQLCluster) { c.Spec.Bootstrap = &v1beta1.Bootstrap{Database: "d", User: "u"} })
	live := map[string][]byte{KeyPassword: []byte("a/b@c")}
	secret := must[*corev1.Secret](t)(ApplicationSecret(cluster, live, zeros{}))
	if diff := cmp.Diff("mysql://u:a%2Fb%40c@db-mysql.shop.svc:3306/d", string(secret.Data[KeyURI])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNoPasswordWithoutRandomness(t *testing.T) {
	_, err := AccountSecret(newCluster(nil), AccountRoot, nil, strings.NewReader("short"))
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}
