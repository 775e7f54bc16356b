package s3

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// The metadata address answers at once on a machine that has a role, and on every other it often
// does not answer at all.
const (
	roleDialTimeout = time.Second
	roleTimeout     = 10 * time.Second // a token exchange with STS goes over the internet
)

// newCredentials returns the first credentials there are of:
//
//  1. AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
//  2. MINIO_ROOT_USER, MINIO_ROOT_PASSWORD (MINIO_ACCESS_KEY, MINIO_SECRET_KEY)
//  3. AWS_PROFILE or "default" of the shared configuration and credentials files
//  4. the role of the pod (IRSA), the container (ECS, EKS) or the machine (EC2)
//
// The role is asked for last, and only if nothing else is there, because that may take seconds.
// When RESTIC_AWS_ASSUME_ROLE_ARN is set, the role there is assumed with them.
func newCredentials(ctx context.Context, c Config) (*credentials.Credentials, error) {
	if c.Anonymous {
		return credentials.NewStatic("", "", "", credentials.SignatureAnonymous), nil
	}
	switch id, secret := os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"); {
	case id == "" && secret != "":
		return nil, errors.New("AWS_SECRET_ACCESS_KEY is set, but AWS_ACCESS_KEY_ID is not")
	case id != "" && secret == "":
		return nil, errors.New("AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not")
	}
	creds := chain(roleClient())
	first, err := creds.GetWithContext(&credentials.CredContext{Context: ctx})
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("look for credentials: %w", err)
	}
	if first.SignerType.IsAnonymous() {
		if profile := os.Getenv("AWS_PROFILE"); profile != "" {
			return nil, fmt.Errorf("the profile %q (AWS_PROFILE) has no keys in the shared credentials file", profile)
		}
		return nil, errors.New("there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use -o s3.unsafe-anonymous-auth=true for a public bucket")
	}
	if arn := os.Getenv("RESTIC_AWS_ASSUME_ROLE_ARN"); arn != "" {
		return assumeRole(arn, c, first)
	}
	return creds, nil
}

func chain(roles *http.Client) *credentials.Credentials {
	providers := []credentials.Provider{&credentials.EnvAWS{}, &credentials.EnvMinio{}, &credentials.FileAWSCredentials{}}
	if os.Getenv("AWS_EC2_METADATA_DISABLED") != "true" || hasContainerRole() {
		providers = append(providers, &credentials.IAM{Client: roles})
	}
	return credentials.NewChainCredentials(providers)
}

// hasContainerRole tells whether the role is that of a pod or container, for which the metadata
// address of the machine is not asked.
func hasContainerRole() bool {
	return os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE") != "" ||
		os.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") != "" || os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI") != ""
}

func roleClient() *http.Client {
	return &http.Client{
		Timeout:   roleTimeout,
		Transport: &http.Transport{DialContext: (&net.Dialer{Timeout: roleDialTimeout}).DialContext},
	}
}

// assumeRole exchanges credentials for those of a role, with restic's variables.
func assumeRole(arn string, c Config, with credentials.Value) (*credentials.Credentials, error) {
	region := os.Getenv("RESTIC_AWS_ASSUME_ROLE_REGION")
	if region == "" {
		region = c.region()
	}
	endpoint := os.Getenv("RESTIC_AWS_ASSUME_ROLE_STS_ENDPOINT")
	switch {
	case endpoint != "":
	case region == "":
		endpoint = "https://sts.amazonaws.com"
	case strings.HasPrefix(region, "cn-"):
		endpoint = "https://sts." + region + ".amazonaws.com.cn"
	default:
		endpoint = "https://sts." + region + ".amazonaws.com"
	}
	creds, err := credentials.NewSTSAssumeRole(endpoint, credentials.STSAssumeRoleOptions{
		RoleARN: arn, Location: region,
		AccessKey: with.AccessKeyID, SecretKey: with.SecretAccessKey, SessionToken: with.SessionToken,
		RoleSessionName: os.Getenv("RESTIC_AWS_ASSUME_ROLE_SESSION_NAME"),
		ExternalID:      os.Getenv("RESTIC_AWS_ASSUME_ROLE_EXTERNAL_ID"),
		Policy:          os.Getenv("RESTIC_AWS_ASSUME_ROLE_POLICY"),
	})
	if err != nil {
		return nil, fmt.Errorf("assume role %s: %w", arn, err)
	}
	return creds, nil
}

// region is the configured one. restic looks at AWS_DEFAULT_REGION only, so that comes first.
func (c *Config) region() string {
	for _, region := range []string{c.Region, os.Getenv("AWS_DEFAULT_REGION"), os.Getenv("AWS_REGION")} {
		if region != "" {
			return region
		}
	}
	return ""
}
