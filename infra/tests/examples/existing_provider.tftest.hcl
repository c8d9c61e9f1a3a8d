# Runs in examples/existing_provider, beside a copy of tests/mocks; .ci/infra puts both there.

mock_provider "aws" {
  source = "./mocks"
}

run "puts_the_function_on_the_capacity_provider_given" {
  command = plan

  assert {
    condition     = module.fibonacci.capacity_provider_name == "shared" && module.fibonacci.security_group_id == null
    error_message = "Nothing of the capacity provider is created."
  }
}
