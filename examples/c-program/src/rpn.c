#include "rpn.h"

#include <stdlib.h>
#include <string.h>

#define STACK_MAX 64

struct stack {
    double values[STACK_MAX];
    int depth;
};

static enum rpn_status push(struct stack *stack, double value)
{
    if (stack->depth == STACK_MAX)
        return RPN_STACK_FULL;
    stack->values[stack->depth++] = value;
    return RPN_OK;
}

static enum rpn_status apply(struct stack *stack, char operator)
{
    if (stack->depth < 2)
        return RPN_STACK_EMPTY;
    double right = stack->values[--stack->depth];
    double left = stack->values[--stack->depth];
    switch (operator) {
    case '+': return push(stack, left + right);
    case '-': return push(stack, left - right);
    case '*': return push(stack, left * right);
    default:
        if (right == 0.0)
            return RPN_DIVIDED_BY_ZERO;
        return push(stack, left / right);
    }
}

static enum rpn_status step(struct stack *stack, const char *word)
{
    if (strlen(word) == 1 && strchr("+-*/", word[0]) != NULL)
        return apply(stack, word[0]);
    char *end;
    double value = strtod(word, &end);
    if (end == word || *end != '\0')
        return RPN_BAD_WORD;
    return push(stack, value);
}

enum rpn_status rpn_eval(int count, char **words, double *result, int *word)
{
    struct stack stack = {.depth = 0};
    for (*word = 0; *word < count; ++*word) {
        enum rpn_status status = step(&stack, words[*word]);
        if (status != RPN_OK)
            return status;
    }
    *word = count - 1;
    if (stack.depth == 0)
        return RPN_STACK_EMPTY;
    if (stack.depth > 1)
        return RPN_LEFT_OVER;
    *result = stack.values[0];
    return RPN_OK;
}

const char *rpn_message(enum rpn_status status)
{
    switch (status) {
    case RPN_OK: return "ok";
    case RPN_STACK_EMPTY: return "not enough numbers";
    case RPN_STACK_FULL: return "too many numbers";
    case RPN_BAD_WORD: return "neither a number nor an operator";
    case RPN_DIVIDED_BY_ZERO: return "division by zero";
    case RPN_LEFT_OVER: return "numbers are left over";
    }
    return "unknown";
}
