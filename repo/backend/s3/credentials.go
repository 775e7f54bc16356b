package s3

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"vitrine/repo/backend"
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
// When RESTIC_AWS_ASSUME_ROLE_ARN is set, the role there is assumed with them. What expires is renewed
// when a request needs it, the credentials that assume a role too.
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
	creds := credentials.New(&lasting{Provider: chain(roleClient())})
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
		return nil, errors.New("there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE to a profile of ~/.aws/credentials, or use -o s3.unsafe-anonymous-auth=true for a public bucket")
	}
	if arn := os.Getenv("RESTIC_AWS_ASSUME_ROLE_ARN"); arn != "" {
		return credentials.New(newAssumed(arn, c, creds)), nil
	}
	return creds, nil
}

// lasting is a chain that, once it had credentials, does not take their absence for an answer: the chain
// takes a role that cannot be renewed just now for anonymous access, which stores refuse for good.
type lasting struct {
	credentials.Provider
	had bool // guarded by the credentials.Credentials around it
}

// RetrieveWithCredContext implements credentials.Provider.
func (l *lasting) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	value, err := l.Provider.RetrieveWithCredContext(cc)
	switch {
	case err != nil:
		return credentials.Value{}, err
	case !value.SignerType.IsAnonymous():
		l.had = true
	case l.had:
		return credentials.Value{}, errors.New("the credentials have expired, and there are no new ones: the role of this machine or container does not answer")
	}
	return value, nil
}

// Retrieve implements credentials.Provider.
func (l *lasting) Retrieve() (credentials.Value, error) { return l.RetrieveWithCredContext(nil) }

func chain(roles *http.Client) *credentials.Chain {
	providers := []credentials.Provider{&credentials.EnvAWS{}, &credentials.EnvMinio{}, &credentials.FileAWSCredentials{}}
	if os.Getenv("AWS_EC2_METADATA_DISABLED") != "true" || hasContainerRole() {
		providers = append(providers, &credentials.IAM{Client: roles})
	}
	return &credentials.Chain{Providers: providers}
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

// refusals are what STS says when it will say so the next time too.
var refusals = []string{"AccessDenied", "InvalidClientTokenId", "MalformedPolicyDocument", "RegionDisabledException", "SignatureDoesNotMatch", "ValidationError"}

// assumed exchanges credentials for those of a role, each time anew when its own have expired. Those
// that it exchanges may expire too, and are then renewed first. It is used from one goroutine at a time,
// as credentials.Credentials does it.
type assumed struct {
	credentials.Expiry
	base *credentials.Credentials
	role credentials.STSAssumeRole // without the keys of base
}

// newAssumed takes the role from restic's variables.
func newAssumed(arn string, c Config, base *credentials.Credentials) *assumed {
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
	return &assumed{base: base, role: credentials.STSAssumeRole{
		STSEndpoint: endpoint,
		Options: credentials.STSAssumeRoleOptions{
			RoleARN: arn, Location: region,
			RoleSessionName: os.Getenv("RESTIC_AWS_ASSUME_ROLE_SESSION_NAME"),
			ExternalID:      os.Getenv("RESTIC_AWS_ASSUME_ROLE_EXTERNAL_ID"),
			Policy:          os.Getenv("RESTIC_AWS_ASSUME_ROLE_POLICY"),
		},
	}}
}

// RetrieveWithCredContext implements credentials.Provider.
func (a *assumed) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	with, err := a.base.GetWithContext(cc)
	if err != nil {
		return credentials.Value{}, fmt.Errorf("assume role %s: %w", a.role.Options.RoleARN, err)
	}
	role := a.role
	role.Options.AccessKey, role.Options.SecretKey, role.Options.SessionToken = with.AccessKeyID, with.SecretAccessKey, with.SessionToken
	value, err := role.RetrieveWithCredContext(cc)
	if err != nil {
		err = fmt.Errorf("assume role %s: %w", a.role.Options.RoleARN, err)
		var answer credentials.ErrorResponse
		if errors.As(err, &answer) && slices.Contains(refusals, answer.STSError.Code) {
			err = reword(backend.ErrDenied, answer.STSError.Code+": "+err.Error(), err)
		}
		return credentials.Value{}, err
	}
	a.SetExpiration(value.Expiration, credentials.DefaultExpiryWindow)
	return value, nil
}

// Retrieve implements credentials.Provider.
func (a *assumed) Retrieve() (credentials.Value, error) { return a.RetrieveWithCredContext(nil) }

// region is the configured one. restic looks at AWS_DEFAULT_REGION only, so that comes first.
func (c *Config) region() string {
	for _, region := range []string{c.Region, os.Getenv("AWS_DEFAULT_REGION"), os.Getenv("AWS_REGION")} {
		if region != "" {
			return region
		}
	}
	return ""
}
