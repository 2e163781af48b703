package main

// The CRDs of OpenShift and OLM are files of these modules; the imports keep the modules in go.mod.
import (
	_ "github.com/openshift/api/route/v1"
	_ "github.com/operator-framework/api/crds"
)
