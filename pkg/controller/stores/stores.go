// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package stores

import (
	"context"
	"errors"
	"time"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

// Directory is where the claim of a volume store is mounted, in agents and in Jobs.
const Directory = "/store"

// ErrNoStore means that a store names no provider, which the API server does not let through.
var ErrNoStore = errors.New("a store needs one of s3, gcs, azure and volume")

// Keys of the Secrets.
const (
	keyAccessKeyID     = "accessKeyID"
	keySecretAccessKey = "secretAccessKey"
	keySessionToken    = "sessionToken"
	keyServiceAccount  = "serviceAccount.json"
	keyAccountKey      = "accountKey"
	keyAuthority       = "ca.crt"
)

// Convert returns a store with the content of its Secret. Field is where the store stands in its object, for example
// spec.store, and begins the message of a *Problem. The claim of a volume store is expected at Directory.
func Convert(ctx context.Context, read Reader, namespace, field string, store *v1beta1.Store) (wire.Store, error) {
	made := wire.Store{Prefix: store.Prefix}
	var err error
	switch {
	case store.S3 != nil:
		s := store.S3
		made.Provider, made.Bucket, made.Endpoint = wire.ProviderS3, s.Bucket, s.Endpoint
		made.Region, made.PathStyle = s.Region, s.PathStyle
		made.Credentials, err = credentials(ctx, read, secretRef{field + ".s3.credentialsSecretRef", namespace, s.CredentialsSecretRef.Name},
			key{name: keyAccessKeyID, check: oneLine}, key{name: keySecretAccessKey, check: oneLine}, key{keySessionToken, oneLine, true})
	case store.GCS != nil:
		s := store.GCS
		made.Provider, made.Bucket, made.Endpoint = wire.ProviderGCS, s.Bucket, s.Endpoint
		made.Credentials, err = credentials(ctx, read, secretRef{field + ".gcs.credentialsSecretRef", namespace, s.CredentialsSecretRef.Name},
			key{name: keyServiceAccount, check: jsonObject})
	case store.Azure != nil:
		s := store.Azure
		made.Provider, made.Bucket, made.Endpoint, made.Account = wire.ProviderAzure, s.Container, s.Endpoint, s.Account
		made.Credentials, err = credentials(ctx, read, secretRef{field + ".azure.credentialsSecretRef", namespace, s.CredentialsSecretRef.Name},
			key{name: keyAccountKey, check: base64Text})
	case store.Volume != nil:
		made.Provider, made.Directory = wire.ProviderVolume, Directory
	default:
		return wire.Store{}, ErrNoStore
	}
	if err != nil {
		return wire.Store{}, err
	}
	return made, nil
}

// ClaimName is the PersistentVolumeClaim of a volume store, "" for the others.
func ClaimName(store *v1beta1.Store) string {
	if store.Volume == nil {
		return ""
	}
	return store.Volume.ClaimName
}

// SecretName is the Secret a store names, "" for a volume.
func SecretName(store *v1beta1.Store) string {
	switch {
	case store.S3 != nil:
		return store.S3.CredentialsSecretRef.Name
	case store.GCS != nil:
		return store.GCS.CredentialsSecretRef.Name
	case store.Azure != nil:
		return store.Azure.CredentialsSecretRef.Name
	default:
		return ""
	}
}

// Target is the point to reach; zero is the moment of the backup. Binary logs hold times in microseconds.
func Target(at *v1beta1.RestorePoint) wire.Target {
	switch {
	case at == nil:
		return wire.Target{}
	case at.Time != nil:
		return wire.Target{Time: at.Time.UTC().Truncate(time.Microsecond)}
	default:
		return wire.Target{GTID: at.GTID, BeforeGTID: at.BeforeGTID}
	}
}
