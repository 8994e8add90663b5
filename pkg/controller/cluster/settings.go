// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/controller/render"
	"github.com/moco-mysql/moco/pkg/mysql/mycnf"
)

// settings is what the instances are to run with, as far as it is known to be acceptable.
type settings struct {
	// options are the user's, merged, that mysqld accepts; nil while that is not known for any.
	options map[string]string
	// problem says why the options asked for are not used; "" when they are, or when it is not known yet.
	problem *invalid
	// asking: an instance has to be asked first.
	asking bool
}

// invalid is a spec that cannot be carried out, with the reason constant of condition Valid.
type invalid struct{ reason, message string }

// optionsOf merges the options of the ConfigMap and of the spec.
func (c *Controller) optionsOf(ctx context.Context, cluster *v1beta1.MySQLCluster) (map[string]string, *invalid, error) {
	shared := map[string]string{}
	if ref := cluster.Spec.ConfigMapRef; ref != nil {
		found, err := c.configMap(ctx, cluster.Namespace, ref.Name)
		if apierrors.IsNotFound(err) {
			return nil, &invalid{"ConfigMapNotFound", fmt.Sprintf("spec.configMapRef.name: ConfigMap %q does not exist in namespace %s; create it or remove the field", ref.Name, cluster.Namespace)}, nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("reading ConfigMap %s: %w", ref.Name, err)
		}
		shared = found.Data
	}
	merged := mycnf.Merge(shared, cluster.Spec.Config)
	if problems := mycnf.Check(merged); len(problems) > 0 {
		texts := make([]string, 0, len(problems))
		for _, p := range problems {
			texts = append(texts, fmt.Sprintf("option %q: %s; %s", p.Option, p.Reason, p.Remedy))
		}
		return nil, &invalid{"OptionRefused", "spec.config: " + strings.Join(texts, ". ")}, nil
	}
	return merged, nil, nil
}

// settle finds the options to use: those asked for if they pass every check, else the last ones that did. An error means
// that a check could not be made; the settings are of use all the same.
func (c *Controller) settle(ctx context.Context, w *world) error {
	wanted, problem, err := c.optionsOf(ctx, w.cluster)
	w.settings.asking = err != nil
	if problem == nil && err == nil {
		problem, w.settings.asking, err = c.verdict(ctx, w, wanted)
	}
	w.settings.problem = problem
	if problem == nil && !w.settings.asking {
		w.settings.options = wanted
		return err
	}
	good, goodErr := c.lastGood(ctx, w.cluster)
	w.settings.options = good
	return errors.Join(err, goodErr)
}

// lastGood returns the options that were accepted last, as published in the cluster's own ConfigMap; nil without any.
func (c *Controller) lastGood(ctx context.Context, cluster *v1beta1.MySQLCluster) (map[string]string, error) {
	published, err := c.configMap(ctx, cluster.Namespace, render.ConfigMapName(cluster))
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the published options: %w", err)
	}
	text, ok := published.Data[render.KeyOptions]
	if !ok || published.Labels[v1beta1.LabelCluster] != cluster.Name {
		return nil, nil
	}
	options := map[string]string{}
	if err := json.Unmarshal([]byte(text), &options); err != nil {
		return nil, nil //nolint:nilerr // somebody edited the readable copy; the options are asked for anew
	}
	return options, nil
}

// verdict is mysqld's own word about options: a problem, or that no instance could be asked yet. What was answered once
// is not asked again for the same image and options.
func (c *Controller) verdict(ctx context.Context, w *world, options map[string]string) (*invalid, bool, error) {
	ordinal, status := w.anyAgent()
	if status == nil {
		// Nobody can be asked. What was accepted before is accepted still.
		good, err := c.lastGood(ctx, w.cluster)
		return nil, good == nil || !maps.Equal(good, options), err
	}
	if status.ImageError != "" {
		return &invalid{"ImageUnusable", fmt.Sprintf("spec.image: %s cannot run MySQL: %s; use an image with mysqld 8.4 or later on its PATH", w.cluster.Spec.Image, status.ImageError)}, false, nil
	}
	version, err := mycnf.ParseVersion(status.ImageVersion)
	if err != nil {
		return nil, true, nil //nolint:nilerr // not reported yet
	}
	if !version.AtLeast(mycnf.MinVersion) {
		return &invalid{"ImageTooOld", fmt.Sprintf("spec.image: %s holds MySQL %s; the oldest supported is %s", w.cluster.Spec.Image, version, mycnf.MinVersion)}, false, nil
	}
	// Judged once for all instances: their files differ in nothing that mysqld could refuse.
	text := renderOptions(w.cluster, 0, version, options)
	key := digest(text)
	message, known := w.memory.verdicts[key]
	if !known {
		message, err = c.askMysqld(ctx, w, ordinal, text)
		if err != nil {
			return nil, true, err
		}
		if len(w.memory.verdicts) >= maxVerdicts {
			clear(w.memory.verdicts)
		}
		w.memory.verdicts[key] = message
	}
	if message != "" {
		return &invalid{"OptionRefused", fmt.Sprintf("spec.config: mysqld %s refuses it: %s; correct or remove the option", version, message)}, false, nil
	}
	return nil, false, nil
}

// askMysqld has mysqld judge an option file; "" means accepted.
func (c *Controller) askMysqld(ctx context.Context, w *world, ordinal int32, text string) (string, error) {
	pod := w.pods[ordinal]
	client := c.fleet.client(pod.UID)
	if client == nil {
		return "", fmt.Errorf("asking mysqld about the options: the agent of %s is gone", pod.Name)
	}
	status, cause := c.fleet.report(pod.UID)
	if status == nil {
		return "", fmt.Errorf("asking mysqld about the options: %s: %s", pod.Name, cause)
	}
	request := &api.ValidateRequest{Envelope: api.Envelope{DeadlineMillis: validateDeadline.Milliseconds()}, MyCnf: text}
	request.Epoch, request.Claim = status.PromisedEpoch, status.PromisedClaim
	reply, err := client.Command(ctx, api.CommandValidate, request)
	if err != nil {
		return "", fmt.Errorf("asking mysqld of %s about the options: %w", pod.Name, err)
	}
	return reply.Message, nil
}

// anyAgent returns the instance of the lowest ordinal whose agent answers and knows its image, or nil.
func (w *world) anyAgent() (int32, *api.Status) {
	for n := range w.seen.Instances {
		i := &w.seen.Instances[n]
		if i.Agent != nil && !i.Stopping && (i.Agent.ImageVersion != "" || i.Agent.ImageError != "") {
			return i.Ordinal, i.Agent
		}
	}
	return 0, nil
}

// renderOptions makes the option file of an instance.
func renderOptions(cluster *v1beta1.MySQLCluster, ordinal int32, version mycnf.Version, options map[string]string) string {
	resources := render.Resources(cluster)
	cpu := resources.Limits.Cpu()
	if cpu.IsZero() {
		cpu = resources.Requests.Cpu()
	}
	input := mycnf.DefaultInput()
	input.ServerID = uint32(ordinal) + 1 // the agent gives mysqld that of its incarnation, which is not known here
	input.ReportHost = render.PodHost(cluster, ordinal)
	input.MemoryBytes = render.MemoryBytes(cluster)
	input.MilliCPU = cpu.MilliValue()
	input.Version = version
	input.User = options
	return mycnf.Render(input)
}

// usable reports whether an agent holds what it needs to start mysqld: what is wanted now or, for a server that runs,
// what it was started with.
func (s *settings) usable(status *api.Status) bool {
	return status.ConfigHash != "" && (s.options != nil || status.Mysqld == api.MysqldRunning)
}

// pendingRestart reports whether mysqld runs with another option file than the agent holds.
func pendingRestart(status *api.Status) bool {
	return status.Mysqld == api.MysqldRunning && status.StartedConfigHash != "" && optionsHash(status.StartedConfigHash) != optionsHash(status.ConfigHash)
}

// configHash joins the hash of the option file and of the rest, so that both can be told apart in a status.
func configHash(options, rest string) string { return options + "-" + rest }

func optionsHash(hash string) string {
	options, _, _ := strings.Cut(hash, "-")
	return options
}

// digest is a short hash of text.
func digest(text ...string) string {
	h := sha256.New()
	for _, t := range text {
		_, _ = fmt.Fprintf(h, "%d:%s", len(t), t)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// configMap reads a ConfigMap live: there is no cache of foreign ConfigMaps.
func (c *Controller) configMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	return c.children.ConfigMap(ctx, namespace, name)
}
