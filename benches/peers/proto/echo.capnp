@0xb7a1e5d2c94f3860;

interface Echo {
  # `whole`: the answer is the body; else it is empty.
  echo @0 (body :Data, whole :Bool) -> (body :Data);
}
