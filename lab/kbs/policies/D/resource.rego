# Stock resource policy of lab-kbs: every attested guest but one whose CPU evidence is that of the sample attester.
package policy

import rego.v1

default allow := false

allow if {
	data.plugin == "resource"
	count(input.submods) > 0
	not sampled
}

sampled if {
	some name, submod in input.submods
	startswith(name, "cpu")
	submod["ear.veraison.annotated-evidence"].sample
}
