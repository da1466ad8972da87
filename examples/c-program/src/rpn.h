#ifndef RPN_H
#define RPN_H

enum rpn_status { RPN_OK, RPN_STACK_EMPTY, RPN_STACK_FULL, RPN_BAD_WORD, RPN_DIVIDED_BY_ZERO, RPN_LEFT_OVER };

/* Evaluates words in reverse Polish notation. *word is the index of the word at fault. */
enum rpn_status rpn_eval(int count, char **words, double *result, int *word);

const char *rpn_message(enum rpn_status status);

#endif
