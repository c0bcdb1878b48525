// Validates an OLM bundle with the library that operator-sdk uses: bundle-validator DIRECTORY
package main

import (
	"fmt"
	"os"

	"github.com/operator-framework/api/pkg/manifests"
	"github.com/operator-framework/api/pkg/validation"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: bundle-validator DIRECTORY")
		os.Exit(2)
	}
	bundle, err := manifests.GetBundleFromDir(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	validators := validation.DefaultBundleValidators.WithValidators(
		validation.OperatorHubV2Validator,
		validation.StandardCapabilitiesValidator,
		validation.GoodPracticesValidator,
		validation.AlphaDeprecatedAPIsValidator,
	)
	objects := bundle.ObjectsToValidate()
	for _, object := range bundle.Objects {
		objects = append(objects, object)
	}
	objects = append(objects, bundle)
	failed := false
	for _, result := range validators.Validate(objects...) {
		for _, finding := range result.Errors {
			fmt.Println("error:", result.Name, finding.Error())
			failed = true
		}
		for _, finding := range result.Warnings {
			fmt.Println("warning:", result.Name, finding.Error())
		}
	}
	if failed {
		os.Exit(1)
	}
}
