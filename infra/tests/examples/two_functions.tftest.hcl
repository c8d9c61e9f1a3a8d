# Runs in examples/two_functions, beside a copy of tests/mocks; .ci/infra puts both there.

mock_provider "aws" {
  source = "./mocks"
}

run "plans_two_functions_on_a_capacity_provider_that_does_not_exist_yet" {
  command = plan

  assert {
    condition     = [for function in concat([module.fibonacci], values(module.more)) : function.lambda_function_name] == ["fibonacci-generator", "fibonacci-canary"]
    error_message = "Both functions must be created in one apply."
  }
}

run "puts_both_on_the_same_capacity_provider" {
  assert {
    condition     = module.more["fibonacci-canary"].capacity_provider_arn == module.fibonacci.capacity_provider_arn && module.more["fibonacci-canary"].operator_role_arn == null
    error_message = "The second function must create none of its own."
  }
}
