// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	parsed, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func mustParse(t *testing.T, text, zone string) Cron {
	t.Helper()
	c, err := Parse(text, zone)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNextFollowsTheClockOnTheWall(t *testing.T) {
	const berlin = "Europe/Berlin"
	cases := map[string]struct {
		schedule, zone, after string
		want                  []string
	}{
		"every day in UTC":                {"0 3 * * *", "", "2026-03-01T03:00:00Z", []string{"2026-03-02T03:00:00Z", "2026-03-03T03:00:00Z"}},
		"a name instead of fields":        {"@daily", "UTC", "2026-03-01T12:00:00Z", []string{"2026-03-02T00:00:00Z"}},
		"a day that is rare":              {"0 0 29 2 *", "UTC", "2026-03-01T12:00:00Z", []string{"2028-02-29T00:00:00Z"}},
		"the offset changes in spring":    {"0 4 * * *", berlin, "2026-03-28T00:00:00Z", []string{"2026-03-28T03:00:00Z", "2026-03-29T02:00:00Z"}},
		"the offset changes in autumn":    {"0 4 * * *", berlin, "2026-10-24T00:00:00Z", []string{"2026-10-24T02:00:00Z", "2026-10-25T03:00:00Z"}},
		"a time that is left out":         {"30 2 * * *", berlin, "2026-03-28T12:00:00Z", []string{"2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"}},
		"two times that are left out":     {"0,30 2 * * *", berlin, "2026-03-28T12:00:00Z", []string{"2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"}},
		"left out, and due at the change": {"0 2,3 * * *", berlin, "2026-03-28T12:00:00Z", []string{"2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"}},
		"a time that comes twice":         {"30 2 * * *", berlin, "2026-10-24T12:00:00Z", []string{"2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"}},
		"begun between the two":           {"30 2 * * *", berlin, "2026-10-25T00:45:00Z", []string{"2026-10-26T01:30:00Z"}},
		"every hour when one is left out": {"0 * * * *", berlin, "2026-03-28T23:30:00Z", []string{"2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"}},
		"every hour when one comes twice": {"0 * * * *", berlin, "2026-10-24T23:30:00Z", []string{"2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"}},
		"a day that never comes":          {"0 0 31 2 *", "UTC", "2026-03-01T12:00:00Z", []string{"0001-01-01T00:00:00Z"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			schedule := mustParse(t, c.schedule, c.zone)
			now := at(t, c.after)
			var got []string
			for range c.want {
				now = schedule.Next(now)
				got = append(got, now.UTC().Format(time.RFC3339))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("due (-want +got):\n%s", diff)
			}
		})
	}
}

// A year is gone through minute by minute: nothing is due twice, nothing is due before it is.
func TestNextAdvancesOverAWholeYear(t *testing.T) {
	for _, text := range []string{"30 2 * * *", "15 */3 * * *", "59 1,2,3 * * 0"} {
		schedule := mustParse(t, text, "Europe/Berlin")
		now, end := at(t, "2026-01-01T00:00:00Z"), at(t, "2027-01-01T00:00:00Z")
		days := map[string]bool{}
		for now.Before(end) {
			next := schedule.Next(now)
			if !next.After(now) {
				t.Fatalf("%s: %s is not after %s", text, next, now)
			}
			shown := next.Format("2006-01-02 15:04")
			if days[shown] {
				t.Errorf("%s: %s is due twice", text, shown)
			}
			days[shown] = true
			now = next
		}
		if text == "30 2 * * *" && len(days) != 365+1 { // and the first day of the next year
			t.Errorf("%s: due on %d days", text, len(days))
		}
	}
}

func TestDueIsTheNewestThatWasMissed(t *testing.T) {
	cases := map[string]struct{ schedule, last, now, want string }{
		"nothing yet":                        {"0 3 * * *", "2026-03-01T03:00:00Z", "2026-03-02T02:59:59Z", "0001-01-01T00:00:00Z"},
		"at the very moment":                 {"0 3 * * *", "2026-03-01T03:00:00Z", "2026-03-02T03:00:00Z", "2026-03-02T03:00:00Z"},
		"several were missed":                {"0 3 * * *", "2026-03-01T03:00:00Z", "2026-03-09T12:00:00Z", "2026-03-09T03:00:00Z"},
		"every minute, missed for a year":    {"* * * * *", "2025-03-01T03:00:00Z", "2026-03-09T12:00:30Z", "2026-03-09T12:00:00Z"},
		"once a year, missed for two":        {"0 0 1 1 *", "2024-02-01T00:00:00Z", "2026-03-09T12:00:00Z", "2026-01-01T00:00:00Z"},
		"what is noted is not due again":     {"0 3 * * *", "2026-03-02T03:00:00Z", "2026-03-02T03:00:00Z", "0001-01-01T00:00:00Z"},
		"a status from the future is obeyed": {"0 3 * * *", "2026-04-02T03:00:00Z", "2026-03-02T03:00:00Z", "0001-01-01T00:00:00Z"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := mustParse(t, c.schedule, "UTC").Due(at(t, c.last), at(t, c.now)).UTC().Format(time.RFC3339)
			if got != c.want {
				t.Errorf("due at %s, want %s", got, c.want)
			}
		})
	}
}

func TestParseSaysWhatIsWrong(t *testing.T) {
	cases := map[string]struct{ schedule, zone, says string }{
		"an unknown zone":           {"0 3 * * *", "Mars/Olympus", "Mars/Olympus"},
		"the zone of the machine":   {"0 3 * * *", "Local", "Local"},
		"a zone in the schedule":    {"CRON_TZ=UTC 0 3 * * *", "", "timeZone"},
		"six fields":                {"0 0 3 * * *", "", "five fields"},
		"an interval without begin": {"@every 1h", "", "no given times"},
		"no schedule":               {"often", "", "often"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(c.schedule, c.zone)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v does not name %q", err, c.says)
			}
		})
	}
}
