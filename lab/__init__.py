"""The lab: an OpenShift-shaped cluster on one machine, without containers.

Real programs wherever they can be had (kube-apiserver, kube-controller-manager, etcd, OLM); every other part is a
stand-in that announces itself. Nothing here imports from ``plugins/``, and nothing there imports from here: both read the
same specification on their own.
"""
