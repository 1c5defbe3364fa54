"""Readies the process for tensor work before any test imports torch, as the command line does."""

from open_exaone.base.machine import prepare_process

prepare_process()
