package txn

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// CheckCluster says whether the cluster can run the pipeline: transaction.version
// 2 (KIP-890) must be finalized, which Kafka 4.0 and later do on their own when a
// cluster is formatted, but not when it is upgraded. Call it at start, and refuse
// to start on a *ClusterError; another error means that no answer was had.
func CheckCluster(ctx context.Context, client *kgo.Client) error {
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "choreo", "1"
	resp, err := req.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("asking the brokers for their transaction.version: %w", err)
	}
	var level int16
	for _, f := range resp.FinalizedFeatures {
		if f.Name == "transaction.version" {
			level = f.MaxVersionLevel
		}
	}
	if level < 2 {
		return &ClusterError{TransactionVersion: level}
	}
	return nil
}

// ClusterError says that transaction.version is too old.
type ClusterError struct {
	// TransactionVersion is the finalized level; 0 where there is none.
	TransactionVersion int16
}

// Error names the remedy.
func (e *ClusterError) Error() string {
	return fmt.Sprintf("the cluster's transaction.version is %d and must be at least 2: run Apache Kafka 4.0 or later, and then"+
		" kafka-features.sh --bootstrap-server <broker> upgrade --feature transaction.version=2", e.TransactionVersion)
}
