// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"fmt"
	"io"
	"net/url"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

const (
	// passwordAlphabet needs no quoting in option files, URLs, SQL and shells. 64 characters, so that a random byte gives
	// each with the same probability.
	passwordAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	// passwordLength gives 192 bits. MySQL takes at most 32 characters as a replication password, hence not more.
	passwordLength = 32
)

// AccountSecret makes the Secret of an account from what the live one holds; live is nil when there is none. A user name
// or password that is there stays, one that is missing or empty is made anew, the password from random. The Secret
// outlives the cluster with retain Keep.
func AccountSecret(cluster *v1beta1.MySQLCluster, account Account, live map[string][]byte, random io.Reader) (*corev1.Secret, error) {
	data := map[string][]byte{KeyUsername: []byte(account)}
	if err := keepPassword(data, live, random); err != nil {
		return nil, err
	}
	if account == AccountMonitoring {
		data[KeyMyCnf] = exporterOptions(data[KeyPassword])
	}
	return secret(cluster, AccountSecretName(cluster, account), data)
}

// ApplicationSecret makes the Secret of bootstrap.user from what the live one holds, which is nil when there is none. It
// is nil when the spec names no user.
func ApplicationSecret(cluster *v1beta1.MySQLCluster, live map[string][]byte, random io.Reader) (*corev1.Secret, error) {
	if cluster.Spec.Bootstrap == nil || cluster.Spec.Bootstrap.User == "" {
		return nil, nil
	}
	user, database := cluster.Spec.Bootstrap.User, cluster.Spec.Bootstrap.Database
	host := ServiceHost(cluster, PrimaryServiceName(cluster))
	data := map[string][]byte{
		KeyUsername: []byte(user),
		KeyDatabase: []byte(database),
		KeyHost:     []byte(host),
		KeyPort:     []byte(strconv.Itoa(MySQLPort)),
	}
	if err := keepPassword(data, live, random); err != nil {
		return nil, err
	}
	uri := url.URL{
		Scheme: "mysql", User: url.UserPassword(user, string(data[KeyPassword])),
		Host: host + ":" + strconv.Itoa(MySQLPort), Path: "/" + database,
	}
	data[KeyURI] = []byte(uri.String())
	return secret(cluster, ApplicationSecretName(cluster), data)
}

// TLSFiles is the content of the Secret the agents serve with, all PEM.
type TLSFiles struct {
	// CA bundle of the cluster; Certificate and Key of the agents; ControllerCA bundle that signs who may command them.
	CA, Certificate, Key, ControllerCA []byte
}

// TLSSecret makes the Secret the agents serve with. It goes with the cluster.
func TLSSecret(cluster *v1beta1.MySQLCluster, files TLSFiles) (*corev1.Secret, error) {
	made, err := secret(cluster, TLSSecretName(cluster), map[string][]byte{
		KeyCACert: files.CA, KeyTLSCert: files.Certificate, KeyTLSKey: files.Key, KeyControllerCA: files.ControllerCA,
	})
	if err != nil {
		return nil, err
	}
	made.OwnerReferences = owned(cluster, made.Name).OwnerReferences
	delete(made.Annotations, v1beta1.AnnotationClusterUID)
	return made, nil
}

// CASecret makes the Secret with the CA of the cluster, certificate bundle and key as PEM. It outlives the cluster with
// retain Keep, so that kept clients go on trusting it.
func CASecret(cluster *v1beta1.MySQLCluster, bundle, key []byte) (*corev1.Secret, error) {
	return secret(cluster, CASecretName(cluster), map[string][]byte{KeyCACert: bundle, KeyCAKey: key})
}

// secret stamps without the data: a hash of passwords has no place in an annotation.
func secret(cluster *v1beta1.MySQLCluster, name string, data map[string][]byte) (*corev1.Secret, error) {
	made := &corev1.Secret{
		TypeMeta:   typeMeta(corev1.SchemeGroupVersion, "Secret"),
		ObjectMeta: retained(cluster, name),
		Type:       corev1.SecretTypeOpaque,
	}
	err := stamp(&made.ObjectMeta, made)
	made.Data = data
	return made, err
}

func keepPassword(data, live map[string][]byte, random io.Reader) error {
	if password := live[KeyPassword]; usable(password) {
		data[KeyPassword] = bytes.Clone(password)
		return nil
	}
	password, err := newPassword(random)
	if err != nil {
		return err
	}
	data[KeyPassword] = password
	return nil
}

// usable: mysqld would take an empty password, and a control character would break out of the exporter's option file.
func usable(password []byte) bool {
	return len(password) > 0 && len(password) <= 255 &&
		bytes.IndexFunc(password, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) < 0
}

func newPassword(random io.Reader) ([]byte, error) {
	password := make([]byte, passwordLength)
	if _, err := io.ReadFull(random, password); err != nil {
		return nil, fmt.Errorf("making a password: %w", err)
	}
	for i, b := range password {
		password[i] = passwordAlphabet[int(b)%len(passwordAlphabet)]
	}
	return password, nil
}

// exporterOptions is the option file of the exporter, which takes its login from nowhere else.
func exporterOptions(password []byte) []byte {
	return fmt.Appendf(nil, "[client]\nuser=%s\npassword=%s\nsocket=%s\n", AccountMonitoring, quoted(password), MySQLSocket)
}

// quoted protects what the reader of option files would take for a comment or a quote in a password chosen by a user.
func quoted(password []byte) string {
	if bytes.ContainsAny(password, "#;'`\\\" ") && !bytes.ContainsRune(password, '`') {
		return "`" + string(password) + "`"
	}
	return string(password)
}
