"""Networks of logic gates: a LogicTreeNet on CIFAR-10."""
