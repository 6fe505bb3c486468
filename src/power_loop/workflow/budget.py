"""`SharedBudget`: what several leaves, or several runs, may use up together."""

from __future__ import annotations

from power_loop.workflow.nodes import WorkflowBudget


class SharedBudget:
    """A number of tokens that whoever begins something reserves from, and pays into what it really took.

    Belongs to one event loop; what must hold over processes is charged to the sessions' ledger as well.
    """

    def __init__(self, max_tokens: int, *, stop_at_remaining_pct: float = 0.0, cost: float | None = None) -> None:
        """Raises `ValueError` for numbers that make no sense."""
        if isinstance(max_tokens, bool) or max_tokens < 1:
            raise ValueError(f"max_tokens is {max_tokens!r}; give a whole number above 0")
        if not 0 <= stop_at_remaining_pct <= 100:
            raise ValueError(f"stop_at_remaining_pct is {stop_at_remaining_pct!r}; give 0 to 100")
        if cost is not None and not cost > 0:
            raise ValueError(f"cost is {cost!r}; give a number above 0, or None for no limit")
        self.max_tokens = max_tokens
        self.stop_at_remaining_pct = stop_at_remaining_pct
        self.max_cost = cost
        self.spent: int = 0
        self.spent_cost: float = 0.0
        self.reserved: int = 0

    @classmethod
    def of(cls, budget: WorkflowBudget) -> SharedBudget:
        return cls(budget.max_tokens, stop_at_remaining_pct=budget.stop_at_remaining_pct, cost=budget.cost)

    @property
    def remaining(self) -> int:
        """Tokens that are neither spent nor reserved; never below 0."""
        return max(0, self.max_tokens - self.spent - self.reserved)

    @property
    def available(self) -> int:
        """Tokens that may be reserved: what remains above the part that is kept."""
        return 0 if self.exhausted else int(self.remaining - self.max_tokens * self.stop_at_remaining_pct / 100)

    @property
    def exhausted(self) -> bool:
        """Nothing more may begin, however much is given back of what is reserved."""
        left = max(0, self.max_tokens - self.spent)
        floor = self.max_tokens * self.stop_at_remaining_pct / 100
        return left <= floor or (self.max_cost is not None and self.spent_cost >= self.max_cost)

    def reserve(self, tokens: int) -> bool:
        """Set ``tokens`` aside for what is about to begin; False, and nothing set aside, when they are not there."""
        floor = self.max_tokens * self.stop_at_remaining_pct / 100
        if self.exhausted or self.remaining - tokens < floor:
            return False
        self.reserved += tokens
        return True

    def charge(self, tokens: int, *, reserved: int = 0, cost: float | None = None) -> None:
        """Something took ``tokens``, of which ``reserved`` had been set aside for it. More than that counts too."""
        self.spent += tokens
        self.spent_cost += cost or 0.0
        self.reserved = max(0, self.reserved - reserved)
