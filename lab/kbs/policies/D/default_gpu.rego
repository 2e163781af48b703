# Stock policy of lab-kbs for additional devices.
package policy

import rego.v1

trust_claims := {
	"instance-identity": 0,
	"configuration": 36,
	"executables": 33,
	"file-system": 0,
	"hardware": hardware,
	"runtime-opaque": 0,
	"storage-opaque": 0,
	"sourced-data": 0,
}

default hardware := 97

hardware := 2 if {
	input.sampledevice
	input.sampledevice.svn in query_reference_value("device_svn")
}
