// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// S3 is the S3 server of the local cluster.
type S3 struct {
	// Endpoint is its URL, as Pods reach it, too.
	Endpoint, Region, AccessKeyID, SecretAccessKey string
}

// OpenS3 reads where the local cluster's S3 server is.
func (w *World) OpenS3(t testing.TB) S3 {
	t.Helper()
	path := filepath.Join(filepath.Dir(w.kubeconfig), "s3.env")
	file, err := os.Open(path)
	if err != nil {
		t.Fatalf("the local cluster has no S3 server: %v", err)
	}
	defer func() { _ = file.Close() }()
	values := map[string]string{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), "=")
		values[name] = value
	}
	return S3{
		Endpoint: values["AWS_ENDPOINT_URL"], Region: values["AWS_REGION"],
		AccessKeyID: values["AWS_ACCESS_KEY_ID"], SecretAccessKey: values["AWS_SECRET_ACCESS_KEY"],
	}
}

// Client of the server.
func (s S3) Client() *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(s.Endpoint), Region: s.Region, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(s.AccessKeyID, s.SecretAccessKey, ""),
	})
}

// Bucket makes an empty bucket and returns a store in it, with its credentials in a Secret of the namespace.
func (w *World) Bucket(t testing.TB, namespace, name string) v1beta1.Store {
	t.Helper()
	server := w.OpenS3(t)
	client := server.Client()
	_, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(name)})
	if _, mine := errors.AsType[*s3types.BucketAlreadyOwnedByYou](err); err != nil && !mine {
		t.Fatalf("making bucket %s: %v", name, err)
	}
	for _, key := range Keys(t, client, name, "") {
		if _, err := client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(name), Key: aws.String(key)}); err != nil {
			t.Fatalf("emptying bucket %s: %v", name, err)
		}
	}
	w.StoreSecret(t, namespace, "store", map[string]string{"accessKeyID": server.AccessKeyID, "secretAccessKey": server.SecretAccessKey})
	return v1beta1.Store{Prefix: "moco", S3: &v1beta1.S3Store{
		Bucket: name, Endpoint: server.Endpoint, Region: server.Region, PathStyle: true,
		CredentialsSecretRef: corev1.LocalObjectReference{Name: "store"},
	}}
}

// StoreSecret makes or replaces a Secret.
func (w *World) StoreSecret(t testing.TB, namespace, name string, data map[string]string) {
	t.Helper()
	secrets := w.Kubernetes.CoreV1().Secrets(namespace)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}, StringData: data}
	_, err := secrets.Create(t.Context(), secret, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = secrets.Update(t.Context(), secret, metav1.UpdateOptions{})
	}
	if err != nil {
		t.Fatalf("making Secret %s: %v", name, err)
	}
}

// Keys lists a bucket.
func Keys(t testing.TB, client *s3.Client, bucket, prefix string) []string {
	t.Helper()
	var keys []string
	pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: aws.String(prefix)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatalf("listing bucket %s: %v", bucket, err)
		}
		for _, object := range page.Contents {
			keys = append(keys, aws.ToString(object.Key))
		}
	}
	return keys
}

// Backup reads a backup.
func (w *World) Backup(ctx context.Context, namespace, name string) (*v1beta1.MySQLBackup, error) {
	return w.Moco.MocoV1beta1().MySQLBackups(namespace).Get(ctx, name, metav1.GetOptions{})
}

// CreateBackup makes a backup in Kubernetes.
func (w *World) CreateBackup(t testing.TB, backup *v1beta1.MySQLBackup) {
	t.Helper()
	if _, err := w.Moco.MocoV1beta1().MySQLBackups(backup.Namespace).Create(t.Context(), backup, metav1.CreateOptions{}); err != nil {
		t.Fatalf("creating backup %s: %v", backup.Name, err)
	}
}

// BackupPhase waits until a backup has come to a phase, and ends the test if it came to the opposite.
func (w *World) BackupPhase(t testing.TB, namespace, name string, phase v1beta1.BackupPhase) *v1beta1.MySQLBackup {
	t.Helper()
	var seen *v1beta1.MySQLBackup
	w.Eventually(t, namespace, fmt.Sprintf("backup %s is %s", name, phase), AvailableWithin, func(ctx context.Context) error {
		backup, err := w.Backup(ctx, namespace, name)
		if err != nil {
			return err
		}
		seen = backup
		if backup.Status.Phase != phase {
			return fmt.Errorf("backup %s is %q: %s", name, backup.Status.Phase, backup.Status.Message)
		}
		return nil
	})
	return seen
}
