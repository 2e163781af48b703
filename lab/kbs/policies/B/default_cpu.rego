# Stock CPU policy of lab-kbs, for the verifiers it has. One rule per claim of the trust vector.
package policy

import rego.v1

default executables := 33

default hardware := 97

default configuration := 36

# Sample attester. svn and launch_digest are lists, the two versions are numbers.
executables := 3 if {
	input.sample
	input.sample.launch_digest in data.reference.launch_digest
}

hardware := 2 if {
	input.sample
	input.sample.svn in data.reference.svn
	input.sample.platform_version.major == data.reference.major_version
	input.sample.platform_version.minor >= data.reference.minimum_minor_version
}

configuration := 2 if {
	input.sample.debug == false
}

# SEV-SNP behind an Azure vTPM. All reference values are lists of strings.
executables := 3 if {
	input.azsnpvtpm.measurement in data.reference.measurement
	input.azsnpvtpm.tpm.pcr11 in data.reference.snp_pcr11
}

hardware := 2 if {
	input.azsnpvtpm.reported_tcb_bootloader in data.reference.tcb_bootloader
	input.azsnpvtpm.reported_tcb_microcode in data.reference.tcb_microcode
	input.azsnpvtpm.reported_tcb_snp in data.reference.tcb_snp
	input.azsnpvtpm.reported_tcb_tee in data.reference.tcb_tee
}

configuration := 2 if {
	input.azsnpvtpm.platform_smt_enabled in data.reference.smt_enabled
	input.azsnpvtpm.platform_tsme_enabled in data.reference.tsme_enabled
	input.azsnpvtpm.policy_abi_major in data.reference.abi_major
	input.azsnpvtpm.policy_abi_minor in data.reference.abi_minor
	input.azsnpvtpm.policy_single_socket in data.reference.single_socket
	input.azsnpvtpm.policy_smt_allowed in data.reference.smt_allowed
}
