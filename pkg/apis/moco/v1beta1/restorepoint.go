// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	"encoding/json"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// UnmarshalJSON reads a point whose time has any number of digits behind the second, or none, of which six count. A MicroTime
// by itself takes exactly six, and whoever lists objects gets none at all when one of them cannot be read.
func (p *RestorePoint) UnmarshalJSON(data []byte) error {
	var read struct {
		Time       *time.Time `json:"time"`
		GTID       string     `json:"gtid"`
		BeforeGTID string     `json:"beforeGTID"`
	}
	if err := json.Unmarshal(data, &read); err != nil {
		return fmt.Errorf("reading a point to restore to: %w", err)
	}
	*p = RestorePoint{GTID: read.GTID, BeforeGTID: read.BeforeGTID}
	if read.Time != nil {
		at := metav1.NewMicroTime(read.Time.Truncate(time.Microsecond))
		p.Time = &at
	}
	return nil
}
